"""The picture of growth: four small ones, with the number of vectors below, both axes logarithmic."""

from __future__ import annotations

from pathlib import Path

COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed")


def growth(series: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw an SVG that is the same for the same figures."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "ragstore", "svg.fonttype": "none", "font.size": 10})
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for axis, key in zip(axes.flat, ("p50 ms", "build s", "memory MiB", "disk MiB"), strict=True):
        for colour, (title, values) in zip(COLOURS, series.items(), strict=False):
            axis.plot(values["vectors"], values[key], "o-", color=colour, label=title)
        axis.set(xscale="log", yscale="log", title=key, xlabel="vectors")
        axis.grid(visible=True, which="major", alpha=0.3)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
        sizes = sorted({int(size) for values in series.values() for size in values["vectors"]})
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axis.set_xticks([], minor=True)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(series), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
