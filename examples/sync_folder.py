"""Three processes, each with a store of its own, share what they know by a folder; the third joins late.

Run it as `python examples/sync_folder.py`, with a folder to keep what it makes.
"""

import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import ragstore

KEY = "a passphrase that all of them know"


def notes(store: ragstore.Store) -> ragstore.Collection:
    return store.create_collection("notes", exist_ok=True)


def write(folder: Path, name: str, texts: list[str]) -> None:
    """A process that writes its own notes and syncs."""
    with ragstore.open(folder / f"{name}.db") as store:
        uris = [f"{name}/{number}" for number in range(len(texts))]
        notes(store).add_texts(texts, uris=uris, metadatas=[{"by": name}] * len(texts))
        print(name, "wrote:", store.sync_folder(folder / "shared", key=KEY))


def sync(folder: Path, name: str) -> None:
    """A process that only syncs."""
    with ragstore.open(folder / f"{name}.db") as store:
        print(name, "synced:", store.sync_folder(folder / "shared", key=KEY))


def tell(folder: Path, name: str) -> None:
    """What a store knows of each writer."""
    with ragstore.open(folder / f"{name}.db", read_only=True) as store:
        known = {who: store["notes"].count({"by": who}) for who in ("laptop", "server", "late")}
    print(name, "knows", ", ".join(f"{who}: {count}" for who, count in known.items()))


def run(target: Callable[..., None], *args: Path | str | list[str]) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=args)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)


def main(folder: Path) -> None:
    run(write, folder, "laptop", ["Cats purr.", "Dogs bark."])
    run(write, folder, "server", ["Owls hoot."])
    run(sync, folder, "laptop")
    # It has nothing yet that the others know, and they do not know of it.
    run(write, folder, "late", ["Bees hum."])
    for name in ("laptop", "server", "late"):
        run(sync, folder, name)
    for name in ("laptop", "server", "late"):
        run(tell, folder, name)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
