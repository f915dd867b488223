"""Everything that a process writes while its store is encrypted, call by call, is searched for what it stores."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ragstore

from tests.faults import images, record, tracing
from tests.helpers.canaries import WORDS

pytestmark = pytest.mark.faults

ROUNDS = record.size(1, 20)
CALLS = ["write", "pwrite64", "writev", "pwritev", "pwritev2"]
# What is written is not in their arguments.
UNSEEN = ["copy_file_range", "sendfile", "splice", "vmsplice", "io_uring_enter"]
MAGIC = b"SQLite format 3\0"
PASSPHRASES = ["canary: a passphrase", "canary: pässwörd 密码"]


def raw(seed: int) -> bytes:
    return hashlib.sha256(f"key {seed}".encode()).digest()


def content(seed: int) -> tuple[list[str], np.ndarray]:
    rows = 120 + seed % 100
    texts = [f"{WORDS[row % 5]} canary-{row} " * (5 + row % 40) for row in range(rows)]
    return texts, np.random.default_rng(seed).standard_normal((rows, 32), np.float32)


def keys(seed: int) -> list[str | bytes]:
    """The keys that the file has, one after the other."""
    return [PASSPHRASES[seed % 2], raw(seed), PASSPHRASES[1 - seed % 2]]


def live(folder: str, seed: str, plain: str) -> None:
    """All that a store does with its files, under one key after the other."""
    path, number = Path(folder, "kb.db"), int(seed)
    texts, vectors = content(number)
    first, *later = [None] * 3 if plain else keys(number)
    with ragstore.open(path, key=first) as store:
        notes = store.create_collection("canary notes", dimension=32, model="m", embedder=lambda t: vectors[: len(t)])
        notes.add_texts(texts, vectors, ids=[f"canary-id-{row}" for row in range(len(texts))])
        notes.add_texts(["embedded canary"])
        notes.create_index("canary.path")
        notes.add({"uri": "canary-uri", "text": texts[0], "metadata": {"canary": "canary"}}, vectors[:1])
        notes.set_embeddings(["canary-id-1"], vectors[2:3])
        store.state("canary")["canary"] = "canary"
        assert notes.search("zyzzyva", vector=vectors[1], k=50, where={"canary": {"$ne": 1}}).ids
        store.backup(Path(folder, "backup.db"))
    for turn, key in enumerate(later):
        # With few pages in memory, so that the others are written.
        with ragstore.open(path, key=first, memory_limit=1 << 20) as store:
            notes = store["canary notes"]
            notes.delete([f"canary-id-{row}" for row in range(len(texts) // 4)])
            store.optimize()
            store.rekey(key)
            notes.add_texts(texts[: len(texts) // 4], vectors[: len(texts) // 4])
            store.vacuum()
            store.checkpoint("truncate")
            assert store.check().ok
            assert store.repair().ok
            store.repair(to=Path(folder, f"repaired-{turn}.db"))
            notes.set_tokenizer("trigram" if turn == 0 else "unicode61")
            store.backup(Path(folder, "backup.db"))
        ragstore.check(path, key=key)
        ragstore.repair(path, Path(folder, f"salvaged-{turn}.db"), key=key)
        first = key
    with ragstore.open(key=first) as store:
        store.create_collection("canary").add_texts(texts, vectors)


class Written:
    """What the calls wrote, by file."""

    def __init__(self, folder: Path, seed: int, *, plain: bool) -> None:
        log, home = folder / "log", folder / "home"
        home.mkdir()
        code = "import sys; from tests.faults import test_encrypted; test_encrypted.live(*sys.argv[1:])"
        trace = ["strace", "-f", "-qq", "-y", "-xx", "-s", str(1 << 26), "-o", str(log)]
        trace += ["-e", f"trace={','.join([*CALLS, *UNSEEN])}"]
        env = {**os.environ, "PYTHONPATH": str(record.ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder)}
        command = [*trace, sys.executable, "-c", code, str(home), str(seed), "plain" if plain else ""]
        subprocess.run(command, check=True, env=env, cwd=record.ROOT)
        self.files: dict[str, list[bytes]] = {}
        self.salts: set[bytes] = set()
        for line in images.lines(log):
            if found := images.LINE.match(line):
                self.take(found[2], found[3])
        log.unlink()
        # Mapped memory is written without calls.
        for path in home.rglob("*"):
            self.files.setdefault(str(path), []).append(path.read_bytes())

    def take(self, call: str, arguments: str) -> None:
        assert call in CALLS, f"{call} writes what is not seen"
        path = images.decoded(images.DESCRIPTOR.match(arguments)[1])
        parts = images.STRING.findall(arguments)
        assert not any(cut for _, cut in parts)
        data = b"".join(bytes.fromhex(part.replace("\\x", "")) for part, _ in parts)
        self.files.setdefault(path, []).append(data)
        if call == "pwrite64" and path.endswith((".db", "-rekey")) and re.search(r", 0$", arguments):
            self.salts.add(data[:16])

    def found(self, needles: list[bytes]) -> dict[bytes, str]:
        """Which of them stand in a file, and in which."""
        places = {}
        for path, parts in self.files.items():
            for needle in needles:
                if any(needle in part for part in parts):
                    places[needle] = path
        return places


def needles(seed: int) -> list[bytes]:
    """Text, names, values and pieces of vectors that are stored."""
    _, vectors = content(seed)
    spans = [vectors[row].tobytes()[at : at + 16] for row in range(0, len(vectors), 11) for at in (0, 64)]
    return [b"canary", *(word.encode() for word in WORDS), MAGIC, b"CREATE TABLE", *spans]


def secrets(seed: int, salts: set[bytes]) -> list[bytes]:
    """The keys and all that is derived from them over the salts of its files, as bytes and as digits."""
    made = []
    for key in keys(seed):
        if isinstance(key, bytes):
            made.append(key)
            continue
        made.append(key.encode())
        made += [hashlib.pbkdf2_hmac("sha512", key.encode(), salt, 256_000, 32) for salt in salts]
    return [form for secret in made for form in (secret, secret.hex().encode(), secret.hex().upper().encode())]


def test_encrypted(tmp_path):
    with record.Suite("encrypted", tmp_path) as suite:
        tracing.require()
        for number in range(ROUNDS):
            seed = suite.seed + number
            folder = tmp_path / str(number)
            folder.mkdir()
            written = Written(folder, seed, plain=False)
            names = {Path(path).name for path in written.files}
            assert {"kb.db", "kb.db-wal", "kb.db-rekey", "backup.db", "salvaged-0.db", "store.db"} <= names
            assert any("etilqs" in name for name in names), "VACUUM wrote no temporary file"
            wanted = needles(seed) + secrets(seed, written.salts)
            places = written.found(wanted)
            assert places == {}, f"seed {seed}: {places}"
            suite.counts["files"] += len(written.files)
            suite.counts["writes"] += sum(map(len, written.files.values()))
            suite.counts["MiB"] += sum(len(part) for parts in written.files.values() for part in parts) >> 20
            suite.counts["texts, pieces of vectors and forms of keys searched"] += len(wanted)


def test_the_search_sees_what_is_written_plain(tmp_path):
    """The control."""
    tracing.require()
    written = Written(tmp_path, 1, plain=True)
    assert written.found(needles(1)).keys() == set(needles(1))
