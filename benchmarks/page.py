"""docs/benchmarks.md has a part for each command that measures; each replaces its own and keeps the others."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"


def replaced(page: str, part: str, text: str) -> str:
    """The page with the text between the markers of a part, which it must have once."""
    start, end = f"<!-- {part} -->", f"<!-- /{part} -->"
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise ValueError(f"the page must have {start} and after it {end}, each once")
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{text.strip()}\n{end}{rest.partition(end)[2]}"


def replace(part: str, text: str, path: Path = PAGE) -> None:
    path.write_text(replaced(path.read_text(encoding="utf-8"), part, text), encoding="utf-8")


def cell(value: float | str | None) -> str:
    """A figure as the tables show it: four digits, thousands apart."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
