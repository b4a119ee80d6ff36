"""Plots: figures as PNG bytes, drawn without pyplot's global state."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

NUMBERED_CLASSES = 15
"""Up to this many adapters every cell shows its count."""
_LONGEST_NAME = 30


def confusion_png(counts: Sequence[Sequence[int]], names: Sequence[str], title: str) -> bytes:
    """A confusion matrix as a PNG; a cell's colour is its share of the row.

    Args:
        counts: a row for each name, then perhaps one for out of scope; a column for each name,
            then one for abstained.
        names: the adapters in label order.
    """
    matrix = np.asarray(counts)
    totals = matrix.sum(1, keepdims=True)
    is_numbered = len(names) <= NUMBERED_CLASSES
    # Inches; a few adapters get larger cells, so that title and scale have room.
    cell = max(0.6, 2.4 / len(matrix)) if is_numbered else 0.22
    height, width = cell * matrix.shape[0], cell * matrix.shape[1]
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    # One hue from light to dark looks the same to everyone. The root, and a palest blue that is
    # not white, keep one mistake in hundreds visible.
    palette = ListedColormap(colormaps["Blues"](np.linspace(0.15, 1, 256)))
    shares = matrix / totals.clip(1)
    image = axes.imshow(np.ma.masked_equal(shares, 0), cmap=palette, norm=PowerNorm(0.5, 0, 1))
    _mark_axes(axes, names, totals[:, 0].tolist(), size=9 if is_numbered else 7)
    if is_numbered:
        _number(axes, matrix, shares)
    axes.set_title(title, fontsize=10, loc="left", pad=10)
    ticks = [0, 0.05, 0.25, 0.5, 1]
    beside = axes.inset_axes((1 + 0.15 / width, 0, 0.15 / width, 1))
    bar = figure.colorbar(image, cax=beside, ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:.0%}" for tick in ticks], fontsize=8)
    bar.set_label("share of the row", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight", pad_inches=0.2)
    return buffer.getvalue()


def depth_png(candidates: Sequence[Mapping[str, Any]], chosen: int) -> bytes:
    """Accuracy over depth as a PNG: the best head of everything that may be read.

    Args:
        candidates: of a router's training record, with ``layer``, ``reads`` and ``val_acc``.
        chosen: which of them was taken.
    """
    best: dict[tuple[bool, str], dict[int, float]] = {}
    for row in candidates:
        together = len(row["reads"]) > 1
        pooling = "all up to there" if together else row["reads"][0].split("(")[-1].rstrip(")")
        line = best.setdefault((together, pooling), {})
        line[row["layer"]] = max(line.get(row["layer"], 0.0), row["val_acc"])
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for (together, name), line in sorted(best.items()):
        depths = sorted(line)
        values = [line[depth] for depth in depths]
        axes.plot(depths, values, marker="o", label=name, linestyle="--" if together else "-")
    taken = candidates[chosen]
    axes.plot(
        taken["layer"], taken["val_acc"], "o", ms=14, mfc="none", color="black", label="chosen"
    )
    axes.set_xticks(sorted({row["layer"] for row in candidates}))
    axes.set_xlabel("layers that are run")
    axes.set_ylabel("validation accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(color="0.9")
    axes.legend(fontsize=8)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _mark_axes(axes: Axes, names: Sequence[str], totals: Sequence[int], size: int) -> None:
    columns = [_short(name) for name in names] + ["abstained"]
    rows = [_short(name) for name in names] + ["out of scope"]
    texts = [f"{row}  ({total})" for row, total in zip(rows, totals, strict=False)]
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
    axes.set_yticks(range(len(texts)), texts, fontsize=size)
    axes.set_xlabel("routed to")
    axes.set_ylabel("true (samples)")
    axes.set_xticks(np.arange(len(columns)) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(texts)) - 0.5, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    for row, total in enumerate(totals):
        if total == 0:  # no samples, hence nothing to see: not the same as no mistakes
            axes.axhspan(row - 0.5, row + 0.5, color="0.88")
    # What is no adapter stands apart from what is.
    axes.axvline(len(names) - 0.5, color="0.3", linewidth=1)
    if len(texts) > len(names):
        axes.axhline(len(names) - 0.5, color="0.3", linewidth=1)


def _number(axes: Axes, matrix: Any, shares: Any) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if shares[row, column] > 0.4 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)


def _short(name: str) -> str:
    """A name that fits: the middle of a long one is left out, its ends tell names apart."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
