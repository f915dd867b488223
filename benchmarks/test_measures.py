"""Every measure runs, on little data; what it measures is for the report."""

import numpy as np
import pytest

from benchmarks import measures
from benchmarks.data import generated
from benchmarks.page import PAGE, cell, replaced
from benchmarks.report import SECTIONS, table

SMALL = {
    "bulk_add": {"rounds": 1},
    "feed": {"rounds": 1},
    "sync": {"rounds": 1},
    "durability": {"rounds": 1, "batch": 100},
    "filters": {"rows": 2000, "rounds": 1},
    "hybrid": {"repeat": 1},
    "candidates": {"depths": (10, 100)},
    "read_back": {"rounds": 3},
    "threads": {"rounds": 1},
    "open_file": {"batches": 1, "rounds": 2},
    "embedding_cache": {"chunks": 200, "rounds": 1},
    "ephemeral": {"rounds": 2},
    "group_commit": {"adds": 8, "rounds": 1},
    "churn": {"rows": 200, "rounds": 2},
    "backup": {"rounds": 1},
}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.measure.__name__)
def test_measures(section, tmp_path):
    figures = section.measure(tmp_path, generated(300), **SMALL.get(section.measure.__name__, {}))
    assert figures
    assert all(np.isfinite(value) for value in figures.values())
    assert figures.get("recall (unique texts)", 1.0) == 1.0


def test_peak_memory(tmp_path):
    assert measures.peak_memory(tmp_path, rows=2000)["MiB beyond the array"] < 128


def test_report_shows_every_figure():
    text = table("name", "About.", "goal", {"a": {"x": 1234.5}, "b": {"y": "z"}})
    assert "| x | 1,234 |  |" in text
    assert cell(0.123456) == "0.1235"


def test_each_command_replaces_its_own_part_of_the_page():
    page = "# Page\n\n<!-- bench -->\nold\n<!-- /bench -->\n\n<!-- compare -->\nkept\n<!-- /compare -->\n"
    assert replaced(page, "bench", "new\n") == page.replace("old", "new")
    with pytest.raises(ValueError, match="<!-- other -->"):
        replaced(page, "other", "new")
    for part in ("bench", "compare"):
        assert f"<!-- {part} -->\nnew\n<!-- /{part} -->" in replaced(PAGE.read_text(), part, "new")
