"""The page of a shadow comparison, the lines for a terminal, and the files beside it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pointsman.errors import ImageError
from pointsman.evaluation.overlay import overlay_jpeg
from pointsman.evaluation.pages import data_address, render
from pointsman.evaluation.report import Head, Table, Tile
from pointsman.evaluation.shadow import ABSTAINED, Gain, Pair, Shadow
from pointsman.evaluation.worth import Interval
from pointsman.files import write_json, write_text
from pointsman.images import load_image
from pointsman.routing.route import Route
from pointsman.sample import to_jsonl

SHOWN = 24
"""Disagreements on the page"""
_WIDTH = 440
"""Width of a screenshot in pixels"""
_SHOWN_SHARES = 3
BIASED = (
    "of the corrected decisions only: if mistakes are corrected more often than right decisions, "
    "the old router looks worse than it is"
)


def save_shadow(found: Shadow, out: Path, candidate: str) -> None:
    """Writes ``shadow.html``, ``disagreements.jsonl`` and, last, ``shadow.json``.

    Raises:
        ArtefactError: ``out`` cannot be written.
    """
    write_text(out / "shadow.html", shadow_html(found, candidate))
    write_text(out / "disagreements.jsonl", to_jsonl(map(_line, found.disagreements)))
    write_json(out / "shadow.json", found.to_json())


def shadow_html(found: Shadow, candidate: str) -> str:
    """The page; ``candidate`` is the new router's name on it."""
    shown = sorted(found.disagreements, key=lambda pair: -pair.route.confidence)[:SHOWN]
    rest = len(found.disagreements) - len(shown)
    note = "Those first that the candidate is surest of."
    if rest:
        note += f" {rest} more are in disagreements.jsonl."
    return render(
        "shadow.html.j2",
        head=_head(found),
        about=f"{candidate} · {len(found.pairs)} logged requests",
        tiles=list(_tiles(found)),
        moves=moves_table(found),
        accuracy=accuracy_line(found),
        estimates=list(estimate_lines(found)),
        drift=found.drift,
        skipped=found.skipped.reasons(),
        note=note,
        cards=[_card(pair, found) for pair in shown],
    )


def agreement_line(found: Shadow) -> str:
    same = len(found.pairs) - len(found.disagreements)
    return f"{same} of {len(found.pairs)} decisions are the same ({_percent(found.agreement)})"


def moves_table(found: Shadow) -> Table:
    """The old choices by the new ones, with counts."""
    rows = [(old, new, str(n), "" if old != new else "same") for old, new, n in found.moves]
    return Table(("old choice", "new choice", "decisions", ""), rows)


def accuracy_line(found: Shadow) -> str | None:
    """The accuracy of both on corrected decisions; None without corrections."""
    part = found.accuracy
    if part is None:
        return None
    return (
        f"right on {part.n} corrected decisions: old {_percent(part.old)}, "
        f"new {_percent(part.new)}; only the old one is right on {part.only_old}, only the new one "
        f"on {part.only_new} ({BIASED})"
    )


def estimate_lines(found: Shadow) -> Iterator[str]:
    """What the new choices are worth by each router's own probabilities."""
    old, new = found.gains
    if not old.n and not new.n:
        return
    yield (
        "estimate, not accuracy: p(new choice) - p(old choice), averaged over the disagreements "
        f"between two adapters, is {_gain(new)} by the candidate and {_gain(old)} by the old router"
    )
    yield (
        "each router prefers its own choice, so the first is never negative and the second never "
        "positive; the one farther from 0 is the surer router's, which may still be wrong"
    )


def _head(found: Shadow) -> Head:
    title = f"{found.agreement.value:.1%} of the decisions are the same"
    accuracy = accuracy_line(found)
    lines = [line for line in (agreement_line(found), accuracy) if line]
    return Head(title, [f"{line[:1].upper()}{line[1:]}." for line in lines])


def _tiles(found: Shadow) -> Iterator[Tile]:
    yield Tile(
        "same decision",
        f"{found.agreement.value:.1%}",
        f"of {len(found.pairs)}, [{100 * found.agreement.low:.1f}, "
        f"{100 * found.agreement.high:.1f}]",
    )
    for name, share in zip(("old", "new"), found.abstained, strict=True):
        yield Tile(f"abstained, {name}", f"{share.hits / share.n:.1%}", f"{share.hits} requests")
    for name, mean in zip(("old", "new"), found.confidence, strict=True):
        yield Tile(f"confidence, {name}", f"{mean:.3f}", "mean of the largest probability")
    if part := found.accuracy:
        for name, right in (("old", part.old), ("new", part.new)):
            yield Tile(f"right, {name}", f"{right.value:.1%}", f"of {part.n} corrected")


def _card(pair: Pair, found: Shadow) -> dict[str, Any]:
    turns = pair.decision.turns
    return {
        "instruction": next((t.text for t in reversed(turns) if t.role == "user"), ""),
        "old": f"{pair.old or ABSTAINED}: {_shares(pair.decision.route)}",
        "new": f"{pair.new or ABSTAINED}: {_shares(pair.route)}",
        "id": pair.decision.id,
        "screenshot": _screenshot(pair, found),
    }


def _screenshot(pair: Pair, found: Shadow) -> str | None:
    """The request's last picture, small; None without one."""
    paths = [found.pictures[d] for d in pair.decision.images if d in found.pictures]
    if not paths:
        return None
    try:
        return data_address(overlay_jpeg(load_image(paths[-1]), None, None, None, _WIDTH), "jpeg")
    except ImageError:  # a text router does not need it
        return None


def _shares(route: Route) -> str:
    likely = sorted(route.probabilities.items(), key=lambda pair: -pair[1])[:_SHOWN_SHARES]
    return " · ".join(f"{name}\N{NO-BREAK SPACE}{share:.2f}" for name, share in likely)


def _line(pair: Pair) -> dict[str, Any]:
    old, new = pair.decision.route.probabilities, pair.route.probabilities
    line = {"id": pair.decision.id, "time": pair.decision.time, "old": pair.old, "new": pair.new}
    texts = [turn.text for turn in pair.decision.turns]
    return {**line, "texts": texts, "old_probabilities": old, "new_probabilities": new}


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _gain(gain: Gain) -> str:
    return "not known" if gain.mean is None else f"{gain.mean:+.3f} (n={gain.n})"
