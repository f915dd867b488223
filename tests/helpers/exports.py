"""A store that has something of everything that an export keeps, and manifests that are changed."""

import json
from datetime import UTC, datetime

from ragstore import Chunk, Document


def fill(store):
    """Two collections, the first with two spaces and a relation; state."""
    pets = store.create_collection("pets", model="m", description="of all kinds", settings={"lang": "en"})
    pets.create_space("wide", dimension=3, metric="l2")
    ids = pets.add(
        [
            Document(
                "Cats purr.",
                id="cat",
                uri="cats.txt",
                metadata={"year": 2026},
                chunks=[Chunk(id="cat", start=0, end=10)],
            ),
            Document(
                "Dogs bark. They do.", id="dog", chunks=[Chunk(id="d0", start=0, end=10), Chunk(id="d1", text="!")]
            ),
        ],
        [[1.0, 0.5], [0.25, 1.0], [1.0, 1.0]],
    ).chunk_ids
    pets.set_embeddings(ids[1:2], [[1.0, 2.0, 3.0]], space="wide")
    pets.create_index("year")
    pets.relate("dog", "cat", "chases", strength=0.25, metadata={"seen": [1]})
    pets.relate("d0", "d1", "next")
    store.create_collection("empty")
    store.state("crawl")["cursor"] = {"page": 3}
    store.state("crawl", local=True).set("lease", [1.5, None], expires_at=datetime(2100, 1, 1, tzinfo=UTC))
    return store


def manifest_with(change):
    def damage(folder):
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return damage
