"""The report is read as a browser reads it: its text, its pictures and what it would fetch."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pointsman.conversation import user_turn
from pointsman.engine.answer import Answer
from pointsman.evaluation.evaluate import save
from pointsman.evaluation.metrics import measure
from pointsman.evaluation.mistakes import worst
from pointsman.evaluation.report import SHOWN_MISTAKES
from pointsman.evaluation.result import Prediction
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.sample import RoutingSample
from support.tiny import make_image

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)>\' onload="x'
BOX = (10.0, 10.0, 30.0, 30.0)


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


@pytest.fixture
def router(tiny_router: Path) -> Router:
    return Router.load(tiny_router)


def predict(
    labels: LabelMap,
    image: str | None,
    label: int,
    went: int,
    confidence: float,
    point: tuple[float, float] | None = None,
    instruction: str = "go",
    **extra: object,
) -> Prediction:
    """A prediction of a sample of ``label``; ``went`` -1 is abstained."""
    best = max(went, 0)
    rest = (1 - confidence) / (len(labels) - 1)
    shares = {name: confidence if n == best else rest for n, name in enumerate(labels)}
    adapter = None if label == OUT_OF_SCOPE else labels.names[label]
    images = () if image is None else (image,)
    sample = RoutingSample(
        (user_turn(instruction, len(images)),),
        images,
        label,
        adapter,
        BOX if adapter else None,
        extra,
    )
    route = Route(
        went, labels.names[went] if went >= 0 else None, shares, went == OUT_OF_SCOPE, confidence
    )
    answers = {}
    if point:
        hit, miss = (
            Answer("…", None, (), where, None, None, "stop", 0, 0)
            for where in ((20.0, 20.0), (0.0, 0.0))
        )
        answers = {
            "routed": replace(miss, point=point), "oracle": hit, "base": miss, "wrong": miss,
            "frequent": miss,
        }  # fmt: skip
    return Prediction(sample, route, answers)


def page(
    router: Router, predictions: Sequence[Prediction], out: Path, by: Sequence[str] = ()
) -> Page:
    save(measure(router.labels, predictions, by=by), router, out)
    return Page(out / "report.html")


def test_it_says_what_matters_and_needs_nothing_else(router: Router, tmp_path: Path) -> None:
    image = str(make_image(tmp_path / "a.png", 1, (900, 600)))
    labels = router.labels
    predictions = [
        predict(labels, image if n < 8 else f"{n}", n % 3, n % 3, 0.9, (20.0, 20.0), kind="usual")
        for n in range(8)
    ]
    predictions += [
        predict(labels, image, 0, 1, 0.7, (0.0, 0.0), "pick the other one", kind="odd"),
        predict(labels, image, OUT_OF_SCOPE, 2, 0.8, None, "tell a joke"),
        predict(labels, None, OUT_OF_SCOPE, OUT_OF_SCOPE, 0.4),
    ]
    found = page(router, predictions, tmp_path / "out", ["kind"])
    for told in (
        "Not shown that routing pays",
        "The router knows the adapter of 88.9% of 9 requests and turns away 50.0% of 2",
        "pick the other one",
        "claim-window answered, calendar should have; confidence 0.70",
        "provider-select answered, no adapter should have",
        "usual",
        "odd",
    ):
        assert told in " ".join(found.text.split()), told
    assert "script" not in {tag for tag, _ in found.tags}
    assert not re.search(r"(src|href)=.(?!data:)", found.source)
    assert "url(" not in found.source
    assert "@import" not in found.source
    assert "default-src 'none'" in found.source
    assert all(image["alt"] for image in found.images)
    assert [tag for tag, _ in found.tags].count("h1") == 1
    assert found.source.startswith("<!doctype html>")


def test_pictures_are_inside_and_screenshots_small(router: Router, tmp_path: Path) -> None:
    image = str(make_image(tmp_path / "a.png", 1, (900, 600)))
    wrong = [predict(router.labels, image, 0, 1, 0.7, (0.0, 0.0)) for _ in range(30)]
    found = page(router, wrong, tmp_path / "out")
    kinds = []
    for attributes in found.images:
        kind, _, content = str(attributes["src"]).partition(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            picture.load()
            assert picture.width > 300
            if kind == "data:image/jpeg":
                assert picture.width <= 440
        kinds.append(kind)
    assert kinds.count("data:image/jpeg") == SHOWN_MISTAKES == 12
    assert kinds.count("data:image/png") == 5
    # Noise is the worst that a screenshot can be.
    assert len(found.source) < 2_000_000


def test_depth_is_drawn_where_there_was_a_choice(router: Router, tmp_path: Path) -> None:
    one = predict(router.labels, None, 0, 0, 0.9)
    several = page(router, [one], tmp_path / "several")
    assert len({c["layer"] for c in router.training["candidates"]}) == 3
    assert any("depth" in str(image["alt"]) for image in several.images)
    first = [c for c in router.training["candidates"] if c["layer"] == 1][:1]
    single = replace(router, training={**router.training, "candidates": first, "chosen": 0})
    assert len(page(single, [one], tmp_path / "one").images) == len(several.images) - 1


def test_what_users_wrote_stays_text(router: Router, tmp_path: Path) -> None:
    image = str(make_image(tmp_path / "a.png", 1))
    evil = predict(router.labels, image, 0, 1, 0.7, None, EVIL, **{EVIL: EVIL})
    origin = replace(router.origin, base_model_id=EVIL)
    found = page(replace(router, origin=origin), [evil], tmp_path / "out", [EVIL])
    assert found.text.count(EVIL) >= 4  # about, card, table head, table row
    assert not {"script"} & {tag for tag, _ in found.tags}
    for _, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes)
    assert sum("onerror" in str(image["alt"]) for image in found.images) == 1
    assert all(str(image["src"]).startswith("data:") for image in found.images)


def test_every_part_may_be_missing(router: Router, tmp_path: Path) -> None:
    labels = router.labels
    inside = predict(labels, None, 0, 0, 0.9)
    outside = predict(labels, None, OUT_OF_SCOPE, OUT_OF_SCOPE, 0.4)
    for number, predictions in enumerate(
        ([inside], [outside], [inside, outside], [predict(labels, None, 0, OUT_OF_SCOPE, 0.4)])
    ):
        found = page(router, predictions, tmp_path / str(number))
        assert "Routing, measured" in found.text
        assert "Right answers" not in found.text
    assert "no image" in found.text
    assert "the base answered, calendar should have" in found.text
    assert "None on these samples." in page(router, [inside], tmp_path / "again").text


def test_without_worth_the_answers_are_the_headline(router: Router, tmp_path: Path) -> None:
    image = str(make_image(tmp_path / "a.png", 1))
    one = predict(router.labels, image, 0, 0, 0.9, (20.0, 20.0))
    answers = {role: answer for role, answer in one.answers.items() if role != "frequent"}
    found = page(router, [replace(one, answers=answers)], tmp_path / "out")
    assert "100.0% of 1 answers right" in found.text
    assert "Routing pays" not in found.text


def test_the_worst_come_first(router: Router) -> None:
    labels = router.labels
    right, missed = (20.0, 20.0), (0.0, 0.0)
    made = {
        "fine": predict(labels, "a", 0, 0, 0.9, right),
        "away": predict(labels, "a", OUT_OF_SCOPE, OUT_OF_SCOPE, 0.4),
        "shy": predict(labels, "a", 0, OUT_OF_SCOPE, 0.45, missed),
        "missed": predict(labels, "a", 0, 0, 0.99, missed),
        "unsure": predict(labels, "a", 0, 1, 0.6, missed),
        "stray": predict(labels, "a", OUT_OF_SCOPE, 1, 0.8),
        "sure": predict(labels, "a", 0, 2, 0.95, right),
    }
    names = {id(prediction): name for name, prediction in made.items()}
    found = worst(list(made.values()))
    assert [names[id(m.prediction)] for m in found] == ["sure", "stray", "unsure", "missed", "shy"]
    assert [m.kind for m in found] == [
        "routed wrong",
        "out of scope, routed",
        "routed wrong",
        "routed right, answered wrong",
        "abstained in scope",
    ]
