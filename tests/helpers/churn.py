"""A collection of which half is replaced again and again."""

import numpy as np
import ragstore

DIMENSION = 96


def vectors(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, DIMENSION), np.float32)


def documents(numbers, version: int) -> list[ragstore.Document]:
    def text(number: int) -> str:
        return " ".join(f"w{(number * 37 + version * 101 + word * word) % 5000}" for word in range(60))

    return [
        ragstore.Document(text(n), id=f"d{n}", uri=f"file:{n}", metadata={"n": int(n), "version": version})
        for n in numbers
    ]


def churned(store, count: int = 1200, rounds: int = 20) -> dict[int, int]:
    """A collection of which half was replaced so many times, and the version of each document."""
    collection = store.create_collection("c", dimension=DIMENSION)
    collection.create_index("n")
    collection.add(documents(range(count), 0), vectors(0, count))
    versions = dict.fromkeys(range(count), 0)
    chance = np.random.default_rng(7)
    for version in range(1, rounds + 1):
        half = chance.choice(count, count // 2, replace=False).tolist()
        collection.add(documents(half, version), vectors(version, len(half)), on_conflict="replace")
        versions.update(dict.fromkeys(half, version))
    return versions
