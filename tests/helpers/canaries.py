"""Content that is found again wherever it is written, and the search for it."""

import contextlib
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import ragstore

MAGIC = b"SQLite format 3\0"
RAW = bytes(range(32))
WORDS = ["zyzzyva", "quokkas", "axolotl", "okapiok", "narwhal"]


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder. Another process reads them: this one would drop SQLite's locks."""
    code = """
import contextlib, json, os, sys
found = {}
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        # What is gone again is no file of the folder.
        with contextlib.suppress(FileNotFoundError), open(os.path.join(folder, name), "rb") as file:
            found[file.name] = file.read().hex()
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    return {name: bytes.fromhex(text) for name, text in json.loads(done.stdout).items()}


def found(folder: Path, needles: list[bytes]) -> set[bytes]:
    """Which needles are in the files of a folder; there is a file with something in it."""
    contents = files(folder)
    assert any(contents.values())
    return {needle for needle in needles if any(needle in content for content in contents.values())}


def secrets(path: Path, key: str | bytes) -> list[bytes]:
    """The passphrase and what is derived from it, as bytes and as digits."""
    if isinstance(key, bytes):
        return [key, key.hex().encode()]
    derived = hashlib.pbkdf2_hmac("sha512", key.encode(), files(path.parent)[str(path)][:16], 256_000, 32)
    return [key.encode(), derived, derived.hex().encode(), derived.hex().upper().encode()]


def life(path: Path, key, look) -> list[bytes]:
    """All that a store does with its files; `look` is called again and again. Returns what must not be read in them."""
    vectors = np.random.default_rng(7).standard_normal((600, 32), np.float32)
    texts = [f"{WORDS[row % 5]} canary-{row} " * 20 for row in range(600)]
    opened: set[str] = set()

    def descriptors(done, total):
        for link in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").exists() else []:
            with contextlib.suppress(OSError):
                opened.add(str(link.readlink()))

    descriptors(0, 0)
    before = set(opened)
    with ragstore.open(path, key=key) as store:
        store.create_collection("scratch").add("gone soon: canary-0")
        notes = store.create_collection(
            "notes", description="canary-description", model="m", embedder=lambda t: vectors[: len(t)]
        )
        notes.add_texts(texts, vectors, ids=[f"canary-id-{row}" for row in range(600)], progress=descriptors)
        look()
        notes.add_texts(["embedded canary-600"], ids=["embedded"])
        with store.transaction() as transaction:
            transaction["notes"].add(
                {"uri": "canary-uri", "text": texts[0], "metadata": {"mark": "canary-meta"}}, vectors[:1]
            )
        notes.delete([f"canary-id-{row}" for row in range(0, 300, 2)])
        notes.create_index("mark", progress=descriptors)
        assert notes.search("zyzzyva", vector=vectors[1], k=5, where={"mark": {"$ne": "x"}}).ids
        assert notes.keyword_search("narwhal OR okapiok", k=200, syntax="fts5").ids
        look()
        notes.set_tokenizer("unicode61", progress=descriptors)
        store.delete_collection("scratch")
        store.create_collection("cleared").add(texts[:9])
        store["cleared"].clear()
        look()
    look()
    with ragstore.open(path, key=key, read_only=True) as store:
        assert store["notes"].vector_search(vectors[1], k=1, exact=True).ids == ["canary-id-1"]
        look()
    # Sorting and statement journals stay in memory.
    assert not [name for name in opened - before if "etilqs" in name or "deleted" in name]
    spans = [vectors[row].tobytes()[at : at + 16] for row in (1, 5, 299, 599) for at in (0, 64)]
    return [b"canary", *(word.encode() for word in WORDS), MAGIC, b"CREATE TABLE", *spans]
