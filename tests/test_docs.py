"""The ```python blocks of the README and of each page of docs/ run as they stand, one after the other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[tuple[int, str]]:
    """The line on which each block begins, and its code."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)) + 1, found[1]) for found in BLOCK.finditer(text)]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES if blocks(page)]


def test_the_readme_has_an_example():
    assert blocks(ROOT / "README.md")


def test_every_fence_of_python_is_found():
    for page in PAGES:
        fences = re.findall(r"^\s*```\s*(?:python|py)\b", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == len(blocks(page)), f"{page.name} has a block that would not run"


@pytest.mark.parametrize("page", EXAMPLES)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for line, code in blocks(page):
        # The newlines put the lines of the page into a traceback.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)


def test_the_example_of_the_readme_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, code = blocks(ROOT / "README.md")[0]
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "cats.md" in printed
    assert "dogs.md" in printed
    assert "<b>sleep</b>" in printed.lower()
