"""The report: an evaluation as one HTML page that needs nothing else and is read in a minute.

Pictures are inside it, there is no script, and everything that users wrote is escaped.
"""

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from pointsman.evaluation import plots
from pointsman.evaluation.metrics import ROLES, Evaluation, Group, Prediction, bins, curve, group_by
from pointsman.evaluation.mistakes import Mistake, worst
from pointsman.evaluation.overlay import draw_overlay
from pointsman.evaluation.report_style import STYLE
from pointsman.evaluation.worth import ALTERNATIVES, Interval, Role, mean_interval
from pointsman.images import load_image
from pointsman.routing.depth_plot import depth_png
from pointsman.routing.router import Router

SHOWN_MISTAKES = 12
_WIDTH = 440
"""Pixels of a screenshot; with the quality below some 20 kB each"""
_QUALITY = 72
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


def report_html(evaluation: Evaluation, router: Router, confusion: bytes) -> str:
    """The page.

    Args:
        router: that made the routes.
        confusion: the confusion matrix as a PNG.
    """
    sections = [
        _section("Who answers how well", _success(evaluation)),
        _section("How far to trust the router", _pictures(evaluation, router, confusion)),
        _section("Worst mistakes", _mistakes(evaluation)),
        _section("In parts", _parts(evaluation)),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Router report</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="kind">Router report</p>
{_head(evaluation)}
<p class="about">{_text(_about(evaluation, router))}</p>
</header>
<main>
{_tiles(evaluation)}
{"".join(sections)}
</main>
</body>
</html>
"""


def _head(evaluation: Evaluation) -> str:
    """The page in a few words, then in one or two sentences."""
    routing = _routing(evaluation)
    if worth := evaluation.worth:
        kind = worth.verdict.replace(" ", "-")
        title, sentences = worth.title, [_capital(worth.grounds), routing]
    elif task := evaluation.task:
        routed, oracle = (_success_of(evaluation, role) for role in ("routed", "oracle"))
        kind, title = "", f"{routed.value:.1%} of {task.n} answers right"
        told = f"Routed, {_percent(routed)} are right; with the right adapter named, "
        sentences = [f"{told}{_percent(oracle)} would be.", routing]
    else:
        kind, title, sentences = "", "Routing, measured", [routing]
    lines = "".join(f"<p>{_text(sentence)}</p>" for sentence in sentences)
    return f'<h1 class="{kind}">{_text(title)}</h1><div class="lead">{lines}</div>'


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


def _tiles(evaluation: Evaluation) -> str:
    tiles: list[tuple[str, str, str]] = []
    if part := evaluation.in_scope:
        right = _rate([p for p in evaluation.predictions if p.sample.in_scope])
        tiles += [
            ("right adapter", f"{part.accuracy:.1%}", f"of {part.n} in scope, {_range(right)}"),
            ("abstained", f"{part.abstained:.1%}", "of those in scope"),
            ("ECE", f"{part.ece:.3f}", "confidence against accuracy; 0 is best"),
        ]
    if outside := evaluation.out_of_scope:
        scored = "-" if outside.auroc is None else f"{outside.auroc:.3f}"
        tiles += [
            ("turned away", f"{outside.rejected:.1%}", f"of {outside.n} out of scope"),
            ("AUROC", scored, "in against out of scope; 1 is best"),
        ]
    if evaluation.task:
        success = _success_of(evaluation, "routed")
        tiles.append(("right answers", f"{success.value:.1%}", f"when routed, {_range(success)}"))
    if evaluation.worth and (seconds := evaluation.worth.ways["routed"].seconds):
        ratio = evaluation.worth.ways["oracle"].time_ratio
        more = f", {100 * (ratio.value - 1):+.1f}% for routing" if ratio else ""
        tiles.append(("a request", f"{seconds.value:.2f} s", f"median, alone{more}"))
    cells = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}<small>{_text(why)}</small></dd></div>"
        for name, value, why in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _success(evaluation: Evaluation) -> str:
    """Shares of right answers by role, and what each costs."""
    if not evaluation.task:
        return ""
    answered = [p for p in evaluation.predictions if p.answers]
    roles = [role for role in (*ALTERNATIVES, "wrong") if role in answered[0].answers]
    shares = {_NAMES[role]: _success_of(evaluation, role) for role in roles}
    alt = "; ".join(f"{name} {_percent(share)}" for name, share in shares.items())
    note = (
        f"Share of {len(answered)} requests in scope whose click lands in the right box and whose "
        "text is right, with 95% bootstrap intervals."
    )
    picture = _picture(plots.success_png(shares), f"Right answers: {alt}", note, "wide")
    worth = evaluation.worth
    if not (worth and worth.timed):
        return picture
    columns = ("who answers", "routing adds, points", "seconds", "time of routed over it")
    told = dict(zip(worth.ways, worth.rows(), strict=True))
    rows = [(_NAMES[role], *costs) for role, (_, _, *costs) in told.items()]
    note = (
        f"Seconds: median of {worth.timed} requests asked one at a time, on the machine at hand; "
        "times are compared request by request."
    )
    return picture + _table(columns, rows) + _note(note)


def _pictures(evaluation: Evaluation, router: Router, confusion: bytes) -> str:
    predictions = evaluation.predictions
    inside = [p for p in predictions if p.sample.in_scope]
    wrong = sum(p.label != p.sample.label for p in inside)
    shown = [
        _picture(
            confusion,
            f"Confusion matrix: {len(inside) - wrong} of {len(inside)} in scope have the right "
            "label on top",
            "Where requests went. Right and sure: numbers on the diagonal only.",
        )
    ]
    if inside:
        reliability = bins(predictions)
        shown.append(
            _picture(
                plots.reliability_png(reliability),
                f"Reliability diagram, ECE {reliability.ece:.3f}",
                "Requests in scope by confidence. On the dashed line the router is right as often "
                "as it says; below it, it is too sure of itself.",
            )
        )
    shown += [_risk_coverage(evaluation, inside), *_depths(router)]
    return f'<div class="pictures">{"".join(shown)}</div>'


def _risk_coverage(evaluation: Evaluation, inside: Sequence[Prediction]) -> str:
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
    return _picture(
        picture,
        f"Risk over coverage of all requests, area {curve(predictions).area:.3f}",
        "What abstaining buys: from left to right less sure requests are routed too. The lower "
        "the line, the better confidence tells right from wrong.",
    )


def _depths(router: Router) -> Iterator[str]:
    """The accuracy of other places in the base, if the router was chosen among several."""
    candidates = router.training.get("candidates", [])
    if len({tuple(c["reads"]) for c in candidates}) > 1:
        yield _picture(
            depth_png(candidates, router.training["chosen"]),
            f"Validation accuracy over depth; kept is {router.recipe}",
            "What the router could have read instead. A request is read that deep to be routed, "
            "so less deep costs less.",
        )


def _mistakes(evaluation: Evaluation) -> str:
    found = worst(evaluation.predictions)
    if not found:
        return "<p>None on these samples.</p>"
    cards = "".join(map(_card, found[:SHOWN_MISTAKES]))
    kinds = " · ".join(
        f"{kind}: {sum(m.kind == kind for m in found)}"
        for kind in dict.fromkeys(m.kind for m in found)
    )
    note = f"{kinds}. " + (
        f"The worst {SHOWN_MISTAKES} are shown, those first that the router was surest of."
        if len(found) > SHOWN_MISTAKES
        else "Those first that the router was surest of."
    )
    legend = "Green box: the right target. Cross: the click of the routed answer."
    return _note(f"{note} {legend}") + f'<div class="cards">{cards}</div>'


def _card(mistake: Mistake) -> str:
    prediction = mistake.prediction
    sample, route = prediction.sample, prediction.route
    instruction = _text(sample.instruction)
    likely = sorted(route.probabilities.items(), key=lambda pair: -pair[1])[:_SHOWN_SHARES]
    shares = " · ".join(f"{name}{_HARD}{share:.2f}" for name, share in likely)
    return f"""<article>
{_screenshot(prediction)}
<h3>{instruction}</h3>
<p><b class="badge">{_text(mistake.kind)}</b><br>{_text(mistake.told)};
confidence {route.confidence:.2f}</p>
<p class="small">{_text(shares)}</p>
</article>"""


def _screenshot(prediction: Prediction) -> str:
    sample = prediction.sample
    if not sample.images:
        return '<p class="missing">no image</p>'
    image = load_image(Path(sample.images[0])).convert("RGB")
    scale = min(1.0, _WIDTH / image.width)
    small = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
        Image.Resampling.LANCZOS,
    )
    answer = prediction.answers.get("routed")
    point = answer.point if answer else None
    x0, y0, x1, y1 = (side * scale for side in sample.bbox or (0, 0, 0, 0))
    drawn = draw_overlay(
        small,
        None if point is None else (point[0] * scale, point[1] * scale),
        None if sample.bbox is None else (x0, y0, x1, y1),
        answer.typed if answer else None,
    )
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    about = f"Screenshot for: {sample.instruction}"
    return f'<img src="{_data(buffer.getvalue(), "jpeg")}" alt="{_text(about)}">'


def _parts(evaluation: Evaluation) -> str:
    by = dict(evaluation.by)
    by.setdefault("adapter", group_by(evaluation.predictions, "adapter", evaluation.labels))
    note = _note(
        "Out of scope, a request is routed right if the router abstained. Answers are those of "
        "requests in scope."
    )
    return note + "".join(_by(name, groups, evaluation) for name, groups in by.items())


def _by(name: str, groups: dict[str, Group], evaluation: Evaluation) -> str:
    roles: tuple[Role, ...] = ROLES if evaluation.task else ()
    columns = (name, "samples", "routed right", *(f"answers: {role}" for role in roles))
    rows = []
    for value, group in groups.items():
        shares = [getattr(group.task, role) if group.task else None for role in roles]
        cells = ["-" if share is None else f"{share:.1%}" for share in shares]
        rows.append((value, str(group.n), f"{group.accuracy:.1%}", *cells))
    return _table(columns, rows)


def _success_of(evaluation: Evaluation, role: Role) -> Interval:
    answered = [p for p in evaluation.predictions if p.answers]
    return _rate(answered, role)


def _rate(predictions: Sequence[Prediction], role: Role | None = None) -> Interval:
    """Share of right answers by a role, else of right adapters."""
    hits = [float(p.hit(role) if role else p.correct) for p in predictions]
    return mean_interval(hits, [p.sample.picture for p in predictions], 0, 1)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{content}</section>\n" if content else ""


def _note(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>'


def _picture(png: bytes, alt: str, caption: str, kind: str = "") -> str:
    return (
        f'<figure class="{kind}"><img src="{_data(png, "png")}" alt="{_text(alt)}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    heads = "".join(f'<th scope="col">{_text(column)}</th>' for column in columns)
    lines = "".join(
        f'<tr><th scope="row">{_text(first)}</th>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    return (
        f'<div class="table"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} {_range(interval)}"


def _range(interval: Interval) -> str:
    return f"[{100 * interval.low:.1f},{_HARD}{100 * interval.high:.1f}]"


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _text(text: str) -> str:
    return html.escape(text)
