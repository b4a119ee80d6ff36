"""Plots: figures as PNG bytes, drawn without pyplot's global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import binomtest

from pointsman.evaluation.curves import Reliability, RiskCoverage
from pointsman.evaluation.worth import Interval
from pointsman.routing.depth_plot import ACCENT, CLASSES, DARK, PALE, SIZE, plainly, to_png

NUMBERED_CLASSES = 15
"""Up to this many adapters every cell shows its count."""
_LONGEST_NAME = 30


def confusion_png(counts: Sequence[Sequence[int]], names: Sequence[str], title: str) -> bytes:
    """A confusion matrix as a PNG; a cell's colour is its share of the row.

    Args:
        counts: a row for each name, then optionally one for out of scope; a column for each name,
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
    # One hue from light to dark is safe for colour-blind readers. The square root, and a palest
    # blue that is not white, keep one mistake in hundreds visible.
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
    return to_png(figure, bbox_inches="tight", pad_inches=0.2)


def reliability_png(bins: Reliability) -> bytes:
    """A reliability diagram as a PNG: accuracy over confidence, and the number in each bin.

    A bin's whiskers show the 95% interval of its share (Wilson, JASA 1927).
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    edges = np.linspace(0, 1, len(bins.counts) + 1)
    width = edges[1]
    counts, confidence, accuracy = (part.numpy() for part in bins)
    full = counts > 0
    axes.plot((0, 1), (0, 1), color="0.6", linewidth=1, linestyle="--")
    axes.bar(edges[:-1][full], accuracy[full], width, align="edge", color=PALE, edgecolor="white")
    shares = [_share(*pair) for pair in zip(accuracy[full], counts[full], strict=True)]
    whiskers = np.array([[a - low, high - a] for a, low, high in shares]).T.clip(0)
    axes.errorbar(
        confidence[full],
        accuracy[full],
        whiskers.reshape(2, -1),
        fmt="o",
        color=DARK,
        markersize=4,
        linewidth=1,
        capsize=2,
    )
    axes.set_ylabel("share that is right")
    axes.set_ylim(0, 1.03)
    axes.set_title(f"ECE {bins.ece:.3f}", loc="left", fontsize=11)
    below.bar(edges[:-1], counts, width, align="edge", color=DARK, edgecolor="white")
    below.set_xlabel("confidence")
    below.set_ylabel("requests")
    # Empty bins below the lowest confidence are left out, except one.
    first = int(full.argmax()) if full.any() else 0
    below.set_xlim(edges[max(0, first - 1)], 1.005)
    plainly(axes, below)
    return to_png(figure)


def risk_coverage_png(
    in_scope: RiskCoverage | None,
    everything: RiskCoverage | None,
    classes: Mapping[str, RiskCoverage],
    now: tuple[float, float] | None,
) -> bytes:
    """Risk over coverage as a PNG.

    Args:
        in_scope: the curve of in-scope requests; None if there are none.
        everything: the curve of all requests; None if none are out of scope.
        classes: the curves of each adapter's requests.
        now: coverage and risk at the router's own threshold; None if nothing is routed.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    is_named = len(classes) <= len(CLASSES)
    if in_scope is not None:
        label = f"in scope  (AURC {in_scope.area:.3f})"
        _draw_curve(axes, in_scope, color=DARK, linewidth=3, label=label)
    for number, (name, curve) in enumerate(classes.items()):
        color = CLASSES[number] if is_named else "0.8"
        named = f"{_short(name)}  (AURC {curve.area:.3f})" if is_named else None
        _draw_curve(axes, curve, color=color, linewidth=1.2, label=named)
    if everything is not None:
        label = f"all, out of scope is wrong  (AURC {everything.area:.3f})"
        _draw_curve(axes, everything, color=DARK, linewidth=1.6, linestyle="--", label=label)
    drawn = [curve for curve in (in_scope, everything, *classes.values()) if curve is not None]
    highest = max(0.05, *(1.15 * curve.risk.max() for curve in drawn))
    if now is not None:
        axes.plot(*now, "o", color=ACCENT, markersize=8, label="the router's threshold", zorder=5)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(-0.02 * highest, highest)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("coverage: share of requests that is routed")
    axes.set_ylabel("risk: share of those routed wrong")
    # Curves may be anywhere.
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    plainly(axes)
    return to_png(figure)


def success_png(ways: Mapping[str, Interval]) -> bytes:
    """Shares of right answers and their intervals as a PNG, the first on top."""
    figure = Figure(figsize=(SIZE[0] * 1.35, 0.55 + 0.42 * len(ways)), layout="constrained")
    axes = figure.subplots()
    for place, share in enumerate(ways.values()):
        color = ACCENT if place == 0 else DARK
        axes.plot((share.low, share.high), (place, place), color=color, linewidth=3, alpha=0.45)
        axes.plot(share.value, place, "o", color=color, markersize=7)
        text = f"{share.value:.1%}  [{100 * share.low:.1f}, {100 * share.high:.1f}]"
        axes.text(1.04, place, text, va="center", fontsize=9, color=color)
    axes.set_yticks(range(len(ways)), [_short(name, 44) for name in ways], fontsize=9)
    axes.set_ylim(len(ways) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    plainly(axes)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return to_png(figure)


def _draw_curve(axes: Axes, curve: RiskCoverage, **style: Any) -> None:
    coverage, risk = curve
    axes.plot(np.append(0, coverage), np.append(risk[0], risk), **style)


def _share(accuracy: float, count: float) -> tuple[float, float, float]:
    interval = binomtest(round(accuracy * count), int(count)).proportion_ci(method="wilson")
    return accuracy, float(interval.low), float(interval.high)


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
    # Rows and columns that are not adapters are set apart.
    axes.axvline(len(names) - 0.5, color="0.3", linewidth=1)
    if len(texts) > len(names):
        axes.axhline(len(names) - 0.5, color="0.3", linewidth=1)


def _number(axes: Axes, matrix: Any, shares: Any) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if shares[row, column] > 0.4 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    """A name that fits: a long one loses its middle, since the ends distinguish names."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"
