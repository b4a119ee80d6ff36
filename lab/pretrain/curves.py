"""Training curves as PNG bytes."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

from .phrases import TASKS


def curves_png(log: list[dict[str, Any]], title: str) -> bytes:
    """Losses against seconds of training, accuracy by task against screens."""
    lines = [line for line in log if line["event"] == "train"]
    seconds = [line["seconds"] for line in lines]
    screens = [line["screens"] / 1000 for line in lines]
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    losses, shares = figure.subplots(1, 2)
    losses.plot(seconds, [line["loss"] for line in lines], label="answers")
    losses.plot(seconds, [line["characters"] for line in lines], label="characters in patches")
    losses.set(xlabel="seconds of training", ylabel="loss", yscale="log")
    losses.legend()
    for index, task in enumerate(TASKS):
        points = [
            (count, line["accuracy"][task])
            for count, line in zip(screens, lines, strict=True)
            if task in line["accuracy"]
        ]
        if points:
            style = ("-", "--", ":")[index // 10 % 3]  # colours come again after ten
            shares.plot(*zip(*points, strict=True), style, label=task, linewidth=1)
    shares.set(xlabel="thousand screens", ylabel="share answered right", ylim=(0, 1))
    shares.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
