"""Documents of which nothing is like another, and pieces of them that are known wherever they are written."""

import numpy as np
import ragstore

DIMENSION = 64
COUNT = 400


def text(number: int) -> str:
    return f"The canary zyzzyva{number}quokka sits at place {number} and says words{number % 7} to the others."


def vectors(count: int = COUNT, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)


def fill(store: ragstore.Store, count: int = COUNT) -> ragstore.Collection:
    collection = store.create_collection("c")
    collection.add_texts(
        [text(number) for number in range(count)],
        vectors(count),
        ids=[f"id{number}" for number in range(count)],
        metadatas=[{"name": f"person of number {number} in the list", "n": number} for number in range(count)],
    )
    return collection


def code(vector: np.ndarray) -> bytes:
    """As an index quantises it: a byte for each component of the unit vector, scaled to 127, with zero at 128."""
    unit = vector.astype(np.float64) / np.linalg.norm(vector.astype(np.float64))
    scaled = unit * (127 / np.abs(unit).max())
    return (np.rint(scaled) + 128).astype(np.uint8).tobytes()


def needles(number: int, rows: np.ndarray) -> list[bytes]:
    vector = rows[number]
    spans = [vector.tobytes()[at : at + 16] for at in range(0, 4 * DIMENSION, 16)]
    codes = [code(vector)[at : at + 12] for at in range(0, DIMENSION - 12, 12)]
    words = [f"zyzzyva{number}quokka", f"person of number {number} in"]
    return [*(word.encode() for word in words), *spans, *codes]
