"""Every measure of the comparison runs, on little data, without the other systems; what it finds is for the page."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare import page, truth
from benchmarks.compare.__main__ import MEASURES, measure
from benchmarks.compare.data import generated
from benchmarks.compare.load import STEADY, agree, since_steady
from benchmarks.compare.result import Goal, Result, Table, against
from benchmarks.compare.run import Run, Worker, WorkerError
from benchmarks.compare.system import SYSTEMS

HERE = Path(__file__).parent / "compare"
# These need no packages beside ragstore's own.
OURS = ("ragstore", "numpy", "sqlite")
SMALL = {
    "ingest": {"repeats": 1},
    "first_result": {"repeats": 1},
    "under_writes": {"rounds": 1, "seconds": 0.2, "rate": 200, "batch": 20},
    "threads": {"threads": 2},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("compare")
    return Run(root, systems=OURS, size=300, sizes=[300], rounds=2, turn=5, seconds=0.2, queries=20)


@pytest.mark.parametrize("name", MEASURES)
def test_measures(run, name):
    result = measure(run, name, **SMALL.get(name, {}))
    assert [note for note in result.notes if not note.startswith("Not in it: ")] == []
    assert name not in ("exact", "hybrid") or any("SQLite FTS5 (an index of words)" in note for note in result.notes)
    if name == "memory" and sys.platform != "linux":
        return
    assert any("ragstore" in row["system"] for table in result.tables for row in table.rows)
    for row in (row for table in result.tables for row in table.rows):
        assert all(np.isfinite(value) for value in row.values() if isinstance(value, (int, float))), row
    if name in ("vectors", "exact"):
        assert {row["recall@10"] for row in result.tables[0].rows} == {1.0}
    if name in ("vectors", "million"):
        # The cheapest that promises enough.
        ours = next(row for row in result.tables[0].rows if row["system"] == "ragstore")
        assert ours["setting"] == ("recall 0.98" if name == "million" else "recall 0.99")
    kept = Result.of(result.to_json())
    assert kept == result
    text = page.render([kept])
    assert f"### {name}" in text
    assert all(goal.reached in text for goal in result.goals)


def test_answers_are_measured_against_the_truth(tmp_path):
    data = generated(tmp_path, 200, queries=3)
    rows, scores = truth.nearest(data)
    assert np.allclose(scores[0], np.sort(data.vectors @ data.queries[0])[::-1][:100])
    right = {query: rows[query][:10].tolist() for query in range(3)}
    assert truth.recall(data, right) == truth.identical(data, right) == 1
    half = {query: [*found[:5], 198, 198] for query, found in right.items()}
    assert truth.recall(data, half) <= 0.6
    assert truth.identical(data, {0: right[0][::-1]}) == 0
    within, _ = truth.nearest(data, below=10)
    assert set(within[0][within[0] >= 0]) == set(np.flatnonzero(data.numbers < 10))
    # A hit outside the filter counts for nothing.
    assert truth.recall(data, {0: right[0]}, below=1) < 1
    words = {query: [row for row, _ in found[:10]] for query, found in enumerate(truth.ranked(data))}
    assert truth.overlap(data, words) == 1
    assert all(rank < 0 for _, rank in truth.ranked(data)[0])
    assert truth.ranked(data)[0] == sorted(truth.ranked(data)[0], key=lambda found: found[1])
    assert truth.overlap(data, {0: []}) == 0
    assert truth.fused(data, right) < 1


def test_what_is_generated_is_the_same_again(tmp_path):
    first, again = generated(tmp_path / "a", 100, queries=2), generated(tmp_path / "b", 100, queries=2)
    assert np.array_equal(first.vectors, again.vectors)
    assert first.texts == again.texts
    assert first.questions == again.questions
    assert np.allclose(np.linalg.norm(first.vectors, axis=1), 1, atol=1e-6)


def test_steady_is_when_the_looks_agree():
    assert not agree([1.0] * (STEADY - 1))
    assert agree([1.0] * (STEADY - 2) + [5.0, 5.0])
    assert not agree([1.0, 2.0, 3.0] * (STEADY // 3))
    assert since_steady([1.0] * STEADY) == 0
    assert since_steady([9.0] * 4 + [1.0] * STEADY) == 4
    # One slow look is noise.
    assert since_steady([1.0] * 3 + [9.0] + [1.0] * STEADY) == 0
    # One quick look among slow ones is noise too.
    assert since_steady([1.0] + [9.0] * 8 + [1.0] * STEADY) == 9


def test_a_system_that_fails_does_not_end_the_comparison(tmp_path):
    run = Run(tmp_path, systems=["nothing", "numpy"], size=50, queries=5, rounds=1, turn=2)
    assert run.systems == ["numpy"]
    assert run.notes[0].startswith("nothing does not take part: ModuleNotFoundError")
    worker = Worker("numpy")
    with pytest.raises(WorkerError, match="no attribute 'fly'"):
        worker.call("fly")
    worker._process.kill()
    with pytest.raises(WorkerError, match="ended with code -9"):
        worker.call("describe")
    worker.close()
    with run.opened([("numpy", {})], generated(tmp_path / "data", 50, queries=5), ("vectors",)) as opened:
        opened[0].worker._process.kill()
        assert run.take_turns(opened, "vector") == []
    assert "NumPy (index only), vector: the process ended" in run.notes[-1]


def test_a_goal_says_what_was_reached():
    assert against("a", "b", 1.0, {"zvec's": 0.5}) == Goal("a", "b", "0.50 of zvec's", met=True)
    assert against("a", "b", 1.0, {"zvec's": 1.5}).met is False
    assert against("a", "b", 1.0, {"zvec's": 0.5}, other=False).met is False
    assert against("a", "b", 1.0, {"zvec's": None}) == Goal("a", "b", "zvec's: not in this run", None)
    text = page.render(
        [Result("x", "About.", [Goal("a", "b", "c", met=False)], [Table("T", [{"n": 1234.5}, {"m": "y"}])])]
    )
    assert "| a | b | c | no |" in text
    assert "| n | m |" in text
    assert "| 1,234 |  |" in text


def test_each_system_has_a_file_and_a_version():
    for name, kind in SYSTEMS.items():
        assert f"class {kind}(" in (HERE / "systems" / f"{name}.py").read_text()
    lines = [line for line in (HERE / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 10
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)


def test_the_picture_of_growth_is_the_same_again(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.compare.plots import growth

    values = {"vectors": [10, 100], "p50 ms": [1, 2], "build s": [1, 3], "memory MiB": [1, 4], "disk MiB": [1, 5]}
    growth({"ragstore": values}, tmp_path / "a.svg")
    growth({"ragstore": values}, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()
