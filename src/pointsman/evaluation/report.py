"""The report: an evaluation as one self-contained HTML page, readable in a minute.

Pictures are embedded, there are no scripts, and everything that users wrote is escaped.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pointsman.evaluation import plots
from pointsman.evaluation.metrics import bins, curve, group_by
from pointsman.evaluation.mistakes import Mistake, worst
from pointsman.evaluation.overlay import overlay_jpeg
from pointsman.evaluation.pages import Picture, data_address, png, render
from pointsman.evaluation.result import ROLES, Evaluation, Group, Prediction, percent
from pointsman.evaluation.worth import ALTERNATIVES, Interval, Role, mean_interval
from pointsman.images import load_image
from pointsman.routing.depth_plot import depth_png
from pointsman.routing.router import Router

SHOWN_MISTAKES = 12
_WIDTH = 440
"""Width of a screenshot in pixels"""
_SHOWN_SHARES = 3
_HARD = "\N{NO-BREAK SPACE}"
_NAMES: dict[Role, str] = {
    "routed": "routed by Pointsman",
    "oracle": "the right adapter, named",
    "frequent": "the most frequent adapter, always",
    "multitask": "the multitask adapter, always",
    "base": "the base alone",
    "wrong": "a wrong adapter",
}


class Tile(NamedTuple):
    """A key figure."""

    name: str
    value: str
    note: str


class Head(NamedTuple):
    """The page's title, and a summary in one or two sentences."""

    title: str
    sentences: Sequence[str]
    kind: str = ""


class Table(NamedTuple):
    """The rows; each has as many cells as there are columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def report_html(evaluation: Evaluation, router: Router, confusion: bytes) -> str:
    """The page.

    Args:
        router: the router that made the routes.
        confusion: the confusion matrix as a PNG.
    """
    return render(
        "report.html.j2",
        head=_head(evaluation),
        about=_about(evaluation, router),
        tiles=list(_tiles(evaluation)),
        success=_success(evaluation),
        figures=list(_figures(evaluation, router, confusion)),
        mistakes=_mistakes(evaluation),
        parts=_parts(evaluation),
    )


def _head(evaluation: Evaluation) -> Head:
    routing = _routing(evaluation)
    if worth := evaluation.worth:
        kind = worth.verdict.replace(" ", "-")
        return Head(worth.title, [_capital(worth.evidence), routing], kind)
    if task := evaluation.task:
        routed, oracle = (_success_of(evaluation, role) for role in ("routed", "oracle"))
        sentence = (
            f"Routed, {_percent(routed)} are right; with the right adapter named, "
            f"{_percent(oracle)} would be."
        )
        return Head(f"{routed.value:.1%} of {task.n} answers right", [sentence, routing])
    return Head("Routing, measured", [routing])


def _routing(evaluation: Evaluation) -> str:
    parts = []
    if part := evaluation.in_scope:
        parts.append(f"knows the adapter of {part.accuracy:.1%} of {part.n} requests")
    if outside := evaluation.out_of_scope:
        parts.append(f"turns away {outside.rejected:.1%} of {outside.n} that no adapter is for")
    return f"The router {' and '.join(parts)}."


def _about(evaluation: Evaluation, router: Router) -> str:
    places = ", ".join(map(str, router.recipe.places))
    return (
        f"{len(evaluation.predictions)} samples · adapters {', '.join(evaluation.labels)} · "
        f"reads {router.origin.base_model_id} at {places} · "
        f"abstains below {router.calibration.threshold:.3f}"
    )


def _tiles(evaluation: Evaluation) -> Iterator[Tile]:
    if part := evaluation.in_scope:
        right = _rate([p for p in evaluation.predictions if p.sample.in_scope])
        yield Tile(
            "right adapter", percent(part.accuracy), f"of {part.n} in scope, {_range(right)}"
        )
        yield Tile("abstained", percent(part.abstained), f"of {part.n} in scope")
        yield Tile("ECE", f"{part.ece:.3f}", "confidence against accuracy; 0 is best")
    if outside := evaluation.out_of_scope:
        auroc = "-" if outside.auroc is None else f"{outside.auroc:.3f}"
        yield Tile("turned away", percent(outside.rejected), f"of {outside.n} out of scope")
        yield Tile("AUROC", auroc, "in against out of scope; 1 is best")
    if task := evaluation.task:
        success = _success_of(evaluation, "routed")
        note = f"of {task.n} when routed, {_range(success)}"
        yield Tile("right answers", percent(success.value), note)
    if evaluation.worth and (seconds := evaluation.worth.ways["routed"].seconds):
        ratio = evaluation.worth.ways["oracle"].time_ratio
        more = f", {100 * (ratio.value - 1):+.1f}% for routing" if ratio else ""
        note = f"median of {evaluation.worth.timed}, alone{more}"
        yield Tile("a request", f"{seconds.value:.2f} s", note)


def _success(evaluation: Evaluation) -> dict[str, Any] | None:
    """Shares of right answers by role, and the cost of each."""
    if not evaluation.task:
        return None
    answered = [p for p in evaluation.predictions if p.answers]
    roles = [role for role in (*ALTERNATIVES, "wrong") if role in answered[0].answers]
    shares = {_NAMES[role]: _success_of(evaluation, role) for role in roles}
    alt = "; ".join(f"{name} {_percent(share)}" for name, share in shares.items())
    note = (
        f"Share of {len(answered)} requests in scope whose click lands in the right box and whose "
        "text is right, with 95% bootstrap intervals."
    )
    figure = png(plots.success_png(shares), f"Right answers: {alt}", note, "wide")
    worth = evaluation.worth
    if not (worth and worth.timed):
        return {"figure": figure, "rows": []}
    costs = zip(worth.ways, worth.rows(), strict=True)
    return {
        "figure": figure,
        "columns": ("answered by", "routing adds, points", "seconds", "time of routed over it"),
        "rows": [(_NAMES[role], *cells) for role, (_, _, *cells) in costs],
        "note": f"Seconds: median of {worth.timed} requests asked one at a time, on this machine; "
        "times are compared request by request.",
    }


def _figures(evaluation: Evaluation, router: Router, confusion: bytes) -> Iterator[Picture]:
    inside = [p for p in evaluation.predictions if p.sample.in_scope]
    wrong = sum(p.label != p.sample.label for p in inside)
    yield png(
        confusion,
        f"Confusion matrix: {len(inside) - wrong} of {len(inside)} in scope have the right "
        "label on top",
        "Where requests went. Right and sure: numbers on the diagonal only.",
    )
    if inside:
        reliability = bins(evaluation.predictions)
        yield png(
            plots.reliability_png(reliability),
            f"Reliability diagram, ECE {reliability.ece:.3f}",
            "Requests in scope by confidence. On the dashed line the router is right as often "
            "as it says; below it, it is too sure of itself.",
        )
    yield _risk_coverage(evaluation, inside)
    # Other places in the base, if the router was chosen among several.
    candidates = router.training.get("candidates", [])
    if len({tuple(c["reads"]) for c in candidates}) > 1:
        yield png(
            depth_png(candidates, router.training["chosen"], router.training.get("free_depth", 0)),
            f"Validation accuracy over depth; kept is {router.recipe}",
            "What the router could have read instead. A request is read that deep to be routed, "
            "so less deep costs less.",
        )


def _risk_coverage(evaluation: Evaluation, inside: Sequence[Prediction]) -> Picture:
    predictions = evaluation.predictions
    classes = {
        name: curve(mine)
        for name in evaluation.labels
        if (mine := [p for p in inside if p.sample.adapter == name])
    }
    routed = [p for p in predictions if not p.route.abstained]
    now = None
    if routed:
        errors = sum(not p.sample.in_scope or not p.correct for p in routed)
        now = len(routed) / len(predictions), errors / len(routed)
    in_scope = curve(inside) if inside else None
    everything = curve(predictions) if len(inside) < len(predictions) else None
    picture = plots.risk_coverage_png(in_scope, everything, classes, now)
    return png(
        picture,
        f"Risk over coverage of all requests, area {curve(predictions).area:.3f}",
        "What abstaining buys: from left to right less sure requests are routed too. The lower "
        "the line, the better confidence tells right from wrong.",
    )


def _mistakes(evaluation: Evaluation) -> dict[str, Any] | None:
    found = worst(evaluation.predictions)
    if not found:
        return None
    kinds = " · ".join(
        f"{kind}: {sum(m.kind == kind for m in found)}"
        for kind in dict.fromkeys(m.kind for m in found)
    )
    order = (
        f"The worst {SHOWN_MISTAKES} are shown, those first that the router was surest of."
        if len(found) > SHOWN_MISTAKES
        else "Those first that the router was surest of."
    )
    legend = "Green box: the right target. Cross: the click of the routed answer."
    return {
        "note": f"{kinds}. {order} {legend}",
        "cards": [_card(mistake) for mistake in found[:SHOWN_MISTAKES]],
    }


def _card(mistake: Mistake) -> dict[str, Any]:
    sample, route = mistake.prediction.sample, mistake.prediction.route
    likely = sorted(route.probabilities.items(), key=lambda pair: -pair[1])[:_SHOWN_SHARES]
    return {
        "kind": mistake.kind,
        "description": mistake.description,
        "instruction": sample.instruction,
        "confidence": f"{route.confidence:.2f}",
        "shares": " · ".join(f"{name}{_HARD}{share:.2f}" for name, share in likely),
        "screenshot": _screenshot(mistake.prediction),
    }


def _screenshot(prediction: Prediction) -> str | None:
    """The small screenshot with box and click; None for a request without an image."""
    sample, answer = prediction.sample, prediction.answers.get("routed")
    if not sample.images:
        return None
    image = load_image(Path(sample.images[0]))
    point, typed = (answer.point, answer.typed) if answer else (None, None)
    return data_address(overlay_jpeg(image, point, sample.bbox, typed, _WIDTH), "jpeg")


def _parts(evaluation: Evaluation) -> list[Table]:
    by = dict(evaluation.by)
    by.setdefault("adapter", group_by(evaluation.predictions, "adapter", evaluation.labels))
    return [_by(name, groups, evaluation) for name, groups in by.items()]


def _by(name: str, groups: dict[str, Group], evaluation: Evaluation) -> Table:
    rows = [
        (value, str(group.n), percent(group.accuracy), *group.answer_cells(evaluation.task))
        for value, group in groups.items()
    ]
    answers = ("answered", *(f"answers: {role}" for role in ROLES)) if evaluation.task else ()
    return Table((name, "samples", "routed right", *answers), rows)


def _success_of(evaluation: Evaluation, role: Role) -> Interval:
    answered = [p for p in evaluation.predictions if p.answers]
    return _rate(answered, role)


def _rate(predictions: Sequence[Prediction], role: Role | None = None) -> Interval:
    """Share of right answers by a role, else of right adapters."""
    hits = [float(p.hit(role) if role else p.correct) for p in predictions]
    return mean_interval(hits, [p.sample.picture for p in predictions], 0, 1)


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} {_range(interval)}"


def _range(interval: Interval) -> str:
    return f"[{100 * interval.low:.1f},{_HARD}{100 * interval.high:.1f}]"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
