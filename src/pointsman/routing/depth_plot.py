"""A plot of validation accuracy over depth, and the style that all plots share."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

SIZE = (5.4, 4.2)
"""Inches"""
DARK, PALE, ACCENT = "#1f4e79", "#c6dbef", "#d55e00"
# Safe for colour-blind readers (Okabe and Ito, Color Universal Design, 2008).
CLASSES = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#f0e442")


def depth_png(candidates: Sequence[Mapping[str, Any]], chosen: int, free: int = 0) -> bytes:
    """Validation accuracy over depth as a PNG: the best head for each candidate reading.

    Args:
        candidates: from a router's training record, each with ``layer``, ``reads`` and ``val_acc``.
        chosen: index of the chosen candidate.
        free: layers up to which routing costs nothing.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    best: dict[str, dict[int, float]] = {}
    for candidate in candidates:
        alone = len(candidate["reads"]) == 1
        name = candidate["reads"][0].split("(")[-1].rstrip(")") if alone else "all up to there"
        line, layer = best.setdefault(name, {}), int(candidate["layer"])
        line[layer] = max(float(candidate["val_acc"]), line.get(layer, 0))
    for number, (name, line) in enumerate(best.items()):
        layers, color = sorted(line), (DARK, *CLASSES)[number]
        axes.plot(layers, [line[n] for n in layers], "o-", color=color, label=name)
    if free:
        least = min(int(candidate["layer"]) for candidate in candidates)
        span = (min(least, free) - 0.5, free + 0.5)
        axes.axvspan(*span, color="0.94", zorder=0, label="no cost with these adapters")
    kept = candidates[chosen]
    axes.plot(
        kept["layer"],
        kept["val_acc"],
        "o",
        color=ACCENT,
        markersize=11,
        fillstyle="none",
        label="kept",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("layers of the base that are run")
    axes.set_ylabel("accuracy on validation")
    axes.legend(frameon=False, fontsize=8.5)
    plainly(axes)
    return to_png(figure)


def plainly(*all_axes: Axes) -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)


def to_png(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, **options)
    return buffer.getvalue()
