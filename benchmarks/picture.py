"""Draw docs/guides/candidates.svg from the page of figures: `python -m benchmarks.picture` after `make bench`."""

from __future__ import annotations

import re

from benchmarks.measures import ROOT

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 60, 60, 40, 50


def figures() -> tuple[list[int], list[float], list[float]]:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    section = page.split("## candidates", 1)[1].split("\n## ", 1)[0]
    rows = {key: float(value.replace(",", "")) for key, value in re.findall(r"\| ([\w: ]+) \| ([\d.,]+) \|", section)}
    depths = sorted({int(key.split(":")[0]) for key in rows})
    return depths, [rows[f"{d}: same hits"] for d in depths], [rows[f"{d}: ms"] for d in depths]


def svg(depths: list[int], shares: list[float], times: list[float]) -> str:
    across = (WIDTH - LEFT - RIGHT) / (len(depths) - 1)
    most = 1.2 * max(times)

    def line(values: list[float], low: float, high: float, colour: str) -> str:
        points = [
            (LEFT + i * across, HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM))
            for i, value in enumerate(values)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'

    def label(x: float, y: float, text: str, anchor: str, colour: str = "#444") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'

    floor = 0.5
    parts = [line(shares, floor, 1.0, "#2563eb"), line(times, 0, most, "#d97706")]
    base = HEIGHT - BOTTOM
    parts += [label(LEFT + i * across, base + 20, f"{depth:,}", "middle") for i, depth in enumerate(depths)]
    parts += [
        label(LEFT - 8, base - (share - floor) / (1 - floor) * (base - TOP) + 4, f"{share:.1f}", "end", "#2563eb")
        for share in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    ]
    parts += [
        label(WIDTH - RIGHT + 8, base - i / 4 * (base - TOP) + 4, f"{most * i / 4:.0f}", "start", "#d97706")
        for i in range(5)
    ]
    parts += [
        label(LEFT - 40, 20, "same hits as with 4,000 candidates", "start", "#2563eb"),
        label(WIDTH - 20, 20, "milliseconds", "end", "#d97706"),
        label(WIDTH / 2, HEIGHT - 10, "candidates of each leg", "middle"),
        f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - RIGHT}" y2="{base}" stroke="#999"/>',
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    (ROOT / "docs" / "guides" / "candidates.svg").write_text(svg(*figures()))
