"""What a fault suite leaves for docs/reliability.md: a case that was skipped is not one that passed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import report

ROOT = Path(__file__).resolve().parents[1]
HEAD = """
import pytest
from tests.faults import record
from pathlib import Path
record.RESULTS = Path(__file__).parent / "results"
"""


@pytest.fixture
def leave(tmp_path):
    """Runs a module in full, and gives what it left."""

    def run(text: str, *arguments: str) -> dict[str, dict]:
        (tmp_path / "conftest.py").write_text((ROOT / "tests/faults/conftest.py").read_text())
        (tmp_path / "test_it.py").write_text(HEAD + text)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, *arguments]
        env = {**os.environ, "RAGSTORE_FAULTS": "full", "PYTHONPATH": str(ROOT)}
        env.pop("RAGSTORE_FAULTS_INDEX_AT", None)
        subprocess.run([*command, tmp_path / "test_it.py"], cwd=tmp_path, env=env, capture_output=True, check=False)
        return {path.stem: json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json")}

    return run


CASES = """
suite = record.suite_of_module("cases")
def test_one(): pass
@pytest.mark.skip(reason="no | mount")
def test_two(): pass
@pytest.mark.parametrize("n", range(2))
def test_three(n): pytest.skip("no disk")
@pytest.mark.xfail
def test_four(): raise ValueError
"""


def test_skipped_cases_are_apart(leave):
    left = leave(CASES)["cases"]
    assert left["outcome"] == "passed"
    assert left["counts"] == {"cases": 2, "skipped: no disk": 2, "skipped: no | mount": 1}
    line = report.row("cases", "what", "must", left)
    assert "2 cases<br>2 skipped: no disk<br>1 skipped: no / mount" in line
    assert line.count("|") == 7


def test_a_failed_case_is_one(leave):
    left = leave(CASES + "def test_five(): raise ValueError")["cases"]
    assert (left["outcome"], left["counts"]["cases"]) == ("failed", 3)


@pytest.mark.parametrize(
    "text",
    [
        """
pytestmark = pytest.mark.skipif(True, reason="no linux")
suite = record.suite_of_module("cases")
def test_one(): pass
def test_two(): pass
""",
        """
suite = record.suite_of_module("cases")
@pytest.fixture
def disk(): pytest.skip("no linux")
def test_one(disk): pass
def test_two(disk): pass
""",
        """
pytestmark = pytest.mark.skipif(True, reason="no linux")
def test_control(): pass
def test_one():
    with record.Suite("cases", None): pass
""",
        """
def test_control(): pass
@pytest.mark.skipif(True, reason="no linux")
def test_one():
    with record.Suite("cases", None): pass
""",
        """
def test_one(tmp_path):
    with record.Suite("cases", tmp_path): pytest.skip("no linux")
""",
    ],
)
def test_a_suite_that_is_skipped_says_so(leave, text):
    left = leave(text)
    assert set(left) == {"cases"}
    assert (left["cases"]["outcome"], left["cases"]["reason"]) == ("skipped", "no linux")
    assert left["cases"]["counts"].get("cases", 0) == 0
    assert "| skipped: no linux |" in report.row("cases", "what", "must", left["cases"])


def test_every_suite_has_a_line():
    found = set()
    for path in (ROOT / "tests/faults").glob("test_*.py"):
        found |= set(re.findall(r'record\.(?:Suite|suite_of_module)\("(\w+)"', path.read_text()))
    assert found == {name for name, _, _ in report.SUITES}


def result(outcome="passed", index_at=None, date="2026-01-02"):
    machine = {"cores": 4, "kernel": "Linux 6", "file system": "ext4"}
    counts = {"kills": 7}
    return {"counts": counts, "seed": 1, "seconds": 5.0, "outcome": outcome, "reason": "", "index at": index_at,
            "date": date, "machine": machine}  # fmt: skip


def test_a_page_keeps_the_lines_of_suites_that_were_not_run_here():
    before = report.page({"forks": result(), "rekey+indexes": result(index_at="20,40")})
    assert before.count("| 7 kills |") == 2
    assert before.count("not run yet") == len(report.SUITES) - 1
    assert before.endswith("\nRun until 2026-01-02 on 4 cores, Linux 6, ext4.\n")
    assert report.page({}, before) == before
    later = report.page({"forks": result("failed", date="2026-03-04"), "churn": result()}, before)
    changed = set(later.splitlines()) - set(before.splitlines())
    assert len(changed) == 3
    assert [line for line in changed if "failed" in line] == [line for line in changed if "forks" in line]
    assert later.endswith("\nRun until 2026-03-04 on 4 cores, Linux 6, ext4.\n")
    assert "indexes from 20 rows, anew after 40" in later
