"""Metrics against numbers worked out by hand, and a whole evaluation on a tiny real model."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointsman.conversation import Turn, user_turn
from pointsman.data.dataset import Dataset, read_samples_of
from pointsman.engine.answer import Answer
from pointsman.engine.engine import Engine
from pointsman.errors import ConfigError, ImageError, LabelError, MismatchError, SampleError
from pointsman.evaluation.evaluate import Evaluation, Prediction, evaluate, measure, save
from pointsman.evaluation.metrics import frequent_adapter
from pointsman.evaluation.plots import confusion_png
from pointsman.evaluation.result import Task
from pointsman.labels import OUT_OF_SCOPE, LabelMap
from pointsman.models.base import load_base
from pointsman.routing.model_selection import select_features
from pointsman.routing.request_router import ReaderRouter
from pointsman.routing.route import Route
from pointsman.routing.router import Router
from pointsman.sample import RoutingSample, load_prompt
from support.tiny import make_adapter, make_base

LABELS = LabelMap(("zebra", "ant", "mole"))  # not in alphabetical order: nothing may sort names
BOX = (10.0, 20.0, 30.0, 40.0)


def make_sample(label: int | None, **extra: object) -> RoutingSample:
    adapter = LABELS.names[label] if label is not None and label >= 0 else None
    return RoutingSample((user_turn("go", 0),), (), label, adapter, extra=extra)


def make_route(*probabilities: float, threshold: float = 0.5) -> Route:
    best = probabilities.index(max(probabilities))
    abstained = probabilities[best] < threshold
    return Route(
        OUT_OF_SCOPE if abstained else best,
        None if abstained else LABELS.names[best],
        dict(zip(LABELS, probabilities, strict=True)),
        abstained,
        score=probabilities[best],
    )


def make_answer(x: float | None, y: float = 30.0) -> Answer:
    return Answer("…", None, (), None if x is None else (x, y), None, None, "stop", 0, 0)


@pytest.fixture
def predictions() -> list[Prediction]:
    """Two zebras (one taken for an ant), two ants (one taken for a mole, unsurely), two others."""
    return [
        Prediction(make_sample(0, stratum="plain", step=10), make_route(0.8, 0.1, 0.1)),
        Prediction(make_sample(0, stratum="text", step=9), make_route(0.3, 0.6, 0.1)),
        Prediction(make_sample(1, stratum="plain"), make_route(0.1, 0.9, 0.0)),
        Prediction(make_sample(1), make_route(0.25, 0.35, 0.4)),
        Prediction(make_sample(-1, stratum="far"), make_route(0.45, 0.3, 0.25)),
        Prediction(make_sample(-1, stratum="far"), make_route(0.7, 0.2, 0.1)),
    ]


def test_in_scope_is_of_the_most_probable_label_abstained_or_not(predictions):
    part = measure(LABELS, predictions).in_scope
    assert part is not None
    assert (part.n, part.accuracy, part.abstained) == (4, 0.5, 0.25)
    # zebra: precision 1, recall 1/2, F1 2/3; ant: 1/2, 1/2, 1/2; mole has no samples.
    assert part.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)
    # Four bins of one sample: gaps 0.2, 0.6, 0.1, 0.4.
    assert part.ece == pytest.approx(1.3 / 4)
    # From the surest on: right, right, wrong, wrong.
    assert part.aurc == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)


def test_out_of_scope_scores_are_compared_with_those_in_scope(predictions):
    part = measure(LABELS, predictions).out_of_scope
    assert part is not None
    # 0.55 beats 0.2, 0.4, 0.1 and not 0.6; 0.3 beats 0.2 and 0.1: five pairs of eight.
    assert (part.n, part.rejected) == (2, 0.5)
    assert part.auroc == pytest.approx(5 / 8)


def test_confusion_shows_where_samples_went(predictions):
    assert measure(LABELS, predictions).confusion == [
        [1, 1, 0, 0],
        [0, 1, 0, 1],
        [0, 0, 0, 0],
        [1, 0, 0, 1],
    ]
    assert measure(LABELS, predictions[:4]).confusion == [
        [1, 1, 0, 0],
        [0, 1, 0, 1],
        [0, 0, 0, 0],
    ]


def test_by_any_field(predictions):
    by = measure(LABELS, predictions, by=["stratum", "adapter", "label", "step"]).to_json()["by"]
    assert by == {
        "stratum": {
            "far": {"n": 2, "accuracy": 0.5, "task": None},
            "plain": {"n": 2, "accuracy": 1.0, "task": None},
            "text": {"n": 1, "accuracy": 0.0, "task": None},
            "(none)": {"n": 1, "accuracy": 0.0, "task": None},
        },
        "adapter": {
            "zebra": {"n": 2, "accuracy": 0.5, "task": None},
            "ant": {"n": 2, "accuracy": 0.5, "task": None},
            "(out of scope)": {"n": 2, "accuracy": 0.5, "task": None},
        },
        "label": {
            "-1": {"n": 2, "accuracy": 0.5, "task": None},
            "0": {"n": 2, "accuracy": 0.5, "task": None},
            "1": {"n": 2, "accuracy": 0.5, "task": None},
        },
        "step": {
            "9": {"n": 1, "accuracy": 0.0, "task": None},
            "10": {"n": 1, "accuracy": 1.0, "task": None},
            "(none)": {"n": 4, "accuracy": 0.5, "task": None},
        },
    }
    assert list(by["stratum"]) == ["far", "plain", "text", "(none)"]
    assert list(by["adapter"]) == ["zebra", "ant", "(out of scope)"]
    assert list(by["step"]) == ["9", "10", "(none)"]


def test_a_field_that_no_sample_has_is_refused(predictions):
    message = "no sample has the field 'widget'; there are adapter, label, stratum, step"
    with pytest.raises(ConfigError, match=message):
        measure(LABELS, predictions, by=["stratum", "widget"])


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((10.0, 20.0), True),
        ((30.0, 40.0), True),
        ((9.9, 30.0), False),
        ((30.1, 30.0), False),
        ((20.0, 19.9), False),
        ((20.0, 40.1), False),
        (None, False),
    ],
)
def test_a_click_on_the_edge_is_inside(point, expected):
    sample = replace(make_sample(0), bbox=BOX)
    answer = Answer("…", None, (), point, None, None, "stop", 0, 0)
    assert Prediction(sample, make_route(1, 0, 0), {"base": answer}).hit("base") is expected


@pytest.mark.parametrize(
    ("right", "typed", "expected"),
    [
        ("4711", "4711", True),
        ("4711", "4711 ", False),
        ("4711", None, False),
        (None, "4711", False),
        (None, None, True),
    ],
)
def test_the_text_of_the_samples_own_answer_has_to_be_typed(right, typed, expected):
    actions = [{"action": "left_click", "coordinate": [1, 1]}]
    if right is not None:
        actions.append({"action": "type", "text": right})
    calls = [f"<tool_call>{json.dumps({'arguments': action})}</tool_call>" for action in actions]
    said = Turn("assistant", ("\n".join(calls),))
    sample = replace(make_sample(0), bbox=BOX, turns=(user_turn("go", 0), said))
    inside = replace(make_answer(20), typed=typed)
    outside = replace(make_answer(50), typed=typed)
    prediction = Prediction(sample, make_route(1, 0, 0), {"routed": inside, "base": outside})
    assert (prediction.hit("routed"), prediction.hit("base")) == (expected, False)


def test_task_is_the_share_of_clicks_inside_by_who_answers(predictions):
    hit, miss, silent = make_answer(20), make_answer(50), make_answer(None)
    answers = [
        {"routed": hit, "oracle": hit, "base": hit, "wrong": miss},
        {"routed": miss, "oracle": hit, "base": silent, "wrong": miss},
        {"routed": hit, "oracle": hit, "base": miss, "wrong": miss},
        {"routed": hit, "oracle": miss, "base": miss, "wrong": silent},
    ]
    answered = [
        replace(p, sample=replace(p.sample, bbox=BOX), answers=given)
        for p, given in zip(predictions, answers, strict=False)
    ]
    evaluation = measure(LABELS, answered + predictions[4:])
    assert evaluation.to_json()["task"] == {
        "n": 4,
        "routed": 0.75,
        "oracle": 0.75,
        "base": 0.25,
        "wrong": 0.0,
    }
    groups = measure(LABELS, answered + predictions[4:], by=["stratum"]).by["stratum"]
    assert groups["plain"].task == Task(2, routed=1.0, oracle=1.0, base=0.5, wrong=0.0)
    assert groups["text"].task == Task(1, routed=0.0, oracle=1.0, base=0.0, wrong=0.0)
    assert groups["far"].task is None
    shown = measure(LABELS, answered, by=["stratum"]).tables()
    tables = {title: rows for title, _, rows in shown}
    assert ("plain", 2, "100.0%", "2", "100.0%", "100.0%", "50.0%", "0.0%") in tables["by stratum"]


def test_a_single_adapter_has_no_wrong_one(predictions):
    answers = {"routed": make_answer(20), "oracle": make_answer(20), "base": make_answer(50)}
    sample = replace(predictions[0].sample, bbox=BOX)
    task = measure(LABELS, [replace(predictions[0], sample=sample, answers=answers)]).task
    assert task is not None
    assert (task.routed, task.oracle, task.base, task.wrong) == (1, 1, 0, None)


def test_what_cannot_be_measured_is_null(predictions):
    inside = measure(LABELS, predictions[:4]).to_json()
    outside = measure(LABELS, predictions[4:]).to_json()
    assert list(inside) == [
        "labels",
        "in_scope",
        "by",
        "out_of_scope",
        "task",
        "worth",
        "confusion",
        "seconds",
    ]
    assert (inside["by"], inside["out_of_scope"], inside["task"]) == ({}, None, None)
    assert outside["in_scope"] is None
    assert outside["out_of_scope"] == {"n": 2, "auroc": None, "rejected": 0.5}


def test_tables_leave_out_what_is_not_there(predictions):
    tables = measure(LABELS, predictions, by=["adapter"]).tables()
    assert [title for title, _, _ in tables] == ["in scope", "out of scope", "by adapter"]
    assert all(len(row) == len(columns) for _, columns, rows in tables for row in rows)
    assert tables[0][2] == [(4, "50.0%", "0.583", "0.325", "0.208", "25.0%")]
    assert measure(LABELS, predictions[4:]).tables()[0][2] == [(2, "-", "50.0%")]


def test_data_of_another_label_map_is_refused(predictions):
    other = LabelMap(("ant", "zebra", "mole"))
    with pytest.raises(MismatchError, match=r"label 0 means 'ant' .* adapter is 'zebra'"):
        measure(other, predictions)
    with pytest.raises(MismatchError, match="a route is among zebra, ant, mole"):
        measure(LabelMap(("zebra", "ant")), predictions[:4])
    with pytest.raises(LabelError, match="label 1 is out of range"):
        measure(LabelMap(("zebra",)), predictions[:4])
    with pytest.raises(SampleError, match="sample 1 has no label"):
        measure(LABELS, [Prediction(make_sample(None), make_route(1, 0, 0))])
    with pytest.raises(SampleError, match="no samples"):
        measure(LABELS, [])


@pytest.fixture(scope="module")
def samples(tiny_dataset: Path, tiny_router: Path) -> list[RoutingSample]:
    """Nine samples in scope, and two out of scope, of which one has no image."""
    inside = read_samples_of(tiny_dataset, Router.load(tiny_router).labels)
    out = replace(inside[0], label=OUT_OF_SCOPE, adapter=None)
    return [*inside, out, replace(out, turns=(user_turn("tell a joke", 0),), images=(), bbox=None)]


@pytest.fixture(scope="module")
def evaluated(tiny_engine: Engine, samples: list[RoutingSample]) -> Evaluation:
    # Three at a time: batches that mix sizes, adapters and positions.
    return evaluate(tiny_engine, samples, by=["stratum"], batch_size=3, max_new_tokens=6)


def test_batches_give_each_sample_its_own_route(evaluated, tiny_engine, samples):
    assert [p.sample for p in evaluated.predictions] == samples
    for prediction in evaluated.predictions:
        alone = tiny_engine.route_batch([load_prompt(prediction.sample)])[0]
        assert prediction.route.probabilities == pytest.approx(alone.probabilities, abs=1e-4)
        assert prediction.route.adapter == alone.adapter


def test_each_role_is_answered_by_its_adapter(evaluated, tiny_engine):
    names = tiny_engine.router.labels.names
    assert evaluated.task is not None
    assert evaluated.task.n == 9
    texts = set()
    for prediction in evaluated.predictions[:9]:
        label = prediction.sample.label
        expected = {
            "routed": prediction.route.adapter,
            "oracle": names[label],
            "base": None,
            "wrong": names[(label + 1) % 3],
        }
        assert {r: a.adapter for r, a in prediction.answers.items()} == expected
        prompt = load_prompt(prediction.sample)
        for role, adapter in expected.items():
            alone = tiny_engine.generate_batch(
                [prompt], adapter=[adapter or "base"], max_new_tokens=6
            )[0]
            assert prediction.answers[role].text == alone.text
            texts.add((prediction.sample.images, adapter, alone.text))
    assert len({text for _, _, text in texts}) > len(names)  # the answers tell adapters apart
    assert all(not prediction.answers for prediction in evaluated.predictions[9:])


def test_the_routed_answer_is_not_made_twice(evaluated):
    for prediction in evaluated.predictions[:9]:
        made = {answer.adapter: answer for answer in prediction.answers.values()}
        assert prediction.answers["routed"] is made[prediction.route.adapter]


def test_progress_counts_routes_and_answers(tiny_engine, samples):
    seen: list[tuple[int, int]] = []
    evaluate(
        tiny_engine,
        samples[6:],
        batch_size=2,
        max_new_tokens=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert {total for _, total in seen} == {5 + 3 * 4}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (17, 17)


def test_a_base_and_a_router_are_enough_to_route(
    evaluated, tiny_base_folder, tiny_router, samples, tmp_path
):
    router = Router.load(tiny_router)
    result = evaluate(
        ReaderRouter(load_base(str(tiny_base_folder)), router), samples, by=["stratum"]
    )
    assert result.task is None
    assert result.seconds is not None
    assert result.seconds.task is None
    assert result.confusion == evaluated.confusion
    assert {value: group.accuracy for value, group in result.by["stratum"].items()} == {
        value: group.accuracy for value, group in evaluated.by["stratum"].items()
    }
    with pytest.raises(MismatchError, match="base"):
        evaluate(
            ReaderRouter(load_base(str(make_base(tmp_path / "base", seed=1))), router), samples
        )


def test_task_can_be_left_out(tiny_engine, samples):
    assert evaluate(tiny_engine, samples, task=False).task is None


@pytest.fixture(scope="module")
def worthy(tiny_engine: Engine, tiny_base_folder: Path, samples, tmp_path_factory) -> Evaluation:
    folder = make_adapter(tiny_base_folder, tmp_path_factory.mktemp("more") / "all", 7)
    tiny_engine.add_adapter("everything", str(folder))
    seen: list[tuple[int, int]] = []
    try:
        made = evaluate(
            tiny_engine,
            samples,
            worth=True,
            multitask="everything",
            max_new_tokens=3,
            progress=lambda done, total: seen.append((done, total)),
        )
    finally:
        tiny_engine.remove_adapter("everything")
    # Eleven routes, six answers to each of nine, and five of these one at a time.
    assert seen[-1] == (11 + 9 * 6 + 9 * 5, 11 + 9 * 6 + 9 * 5)
    return made


def test_worth_asks_the_most_frequent_and_the_multitask_adapter(worthy, tiny_engine):
    assert worthy.worth is not None
    assert worthy.worth.frequent == "calendar"  # three samples of each: the first in label order
    assert list(worthy.worth.ways) == ["routed", "oracle", "frequent", "multitask", "base"]
    for prediction in worthy.predictions[:9]:
        asked = {role: answer.adapter for role, answer in prediction.answers.items()}
        assert (asked["frequent"], asked["multitask"]) == ("calendar", "everything")
        assert asked["routed"] == prediction.route.adapter
    task = worthy.task
    assert task is not None
    assert worthy.worth.ways["routed"].success.value == task.routed
    assert worthy.worth.ways["base"].success.value == task.base
    assert (worthy.worth.n, worthy.worth.pictures, worthy.worth.timed) == (9, 9, 9)
    assert worthy.worth.verdict == "not shown"  # of nine pictures
    for way in worthy.worth.ways.values():
        assert way.seconds is not None
        assert 0 < way.seconds.low <= way.seconds.value <= way.seconds.high < 10
    titles = [title for title, _, _ in worthy.tables()]
    assert "worth on 9 requests" in titles
    assert worthy.to_json()["worth"]["verdict"] == "not shown"


def test_the_most_frequent_adapter_is_that_of_most_samples(samples):
    fewer = [sample for sample in samples if sample.adapter != "calendar"]
    labels = LabelMap(("calendar", "claim-window", "provider-select"))
    assert frequent_adapter(samples, labels) == "calendar"
    assert frequent_adapter(fewer, labels) == "claim-window"
    more = next(sample for sample in fewer if sample.adapter == "provider-select")
    assert frequent_adapter([*fewer, more], labels) == "provider-select"


def test_worth_needs_answers(tiny_engine, tiny_base_folder, tiny_router, samples):
    for refuse in (
        lambda: evaluate(tiny_engine, samples, worth=True, task=False),
        lambda: evaluate(tiny_engine, samples[9:], worth=True),
        lambda: evaluate(
            ReaderRouter(load_base(str(tiny_base_folder)), Router.load(tiny_router)),
            samples,
            worth=True,
        ),
    ):
        with pytest.raises(ConfigError, match="what routing is worth shows in answers"):
            refuse()
    with pytest.raises(LabelError, match="'gone'"):
        evaluate(tiny_engine, samples, multitask="gone")


def test_bad_requests_are_refused_before_the_model_runs(tiny_engine, samples):
    def never(done: int, total: int) -> None:
        raise AssertionError("the model ran")

    with pytest.raises(ConfigError, match="batch_size 0"):
        evaluate(tiny_engine, samples, batch_size=0, progress=never)
    with pytest.raises(ConfigError, match="no sample has the field 'skin'"):
        evaluate(tiny_engine, samples, by=["skin"], progress=never)
    gone = [*samples, replace(samples[0], images=("gone.png",))]
    with pytest.raises(ImageError, match=r"gone\.png: no such image"):
        evaluate(tiny_engine, gone, progress=never)


def test_stored_features_measure_like_the_model(tiny_router, tiny_features, tiny_data: Dataset):
    router = Router.load(tiny_router)
    values, _ = tiny_features.splits["test"]
    test = tiny_data.splits["test"]
    routes = router.routes(select_features(router.recipe, tiny_features.recipe, values))
    stored = measure(router.labels, [Prediction(s, r) for s, r in zip(test, routes, strict=True)])
    assert stored.in_scope is not None
    assert stored.in_scope.n == len(test) == sum(map(sum, stored.confusion))


def test_save_writes_everything(evaluated: Evaluation, tiny_engine: Engine, tmp_path: Path):
    for _ in range(2):  # a second time over the first
        save(evaluated, tiny_engine.router, tmp_path / "out")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["confusion.png", "evaluation.json", "predictions.jsonl", "report.html"]
    assert json.loads((tmp_path / "out/evaluation.json").read_text()) == evaluated.to_json()
    lines = [json.loads(x) for x in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 11
    first, prediction = lines[0], evaluated.predictions[0]
    assert first["image"] == prediction.sample.images[0]
    assert first["instruction"] == prediction.sample.instruction
    assert (first["label"], first["adapter"]) == (
        prediction.sample.label,
        prediction.sample.adapter,
    )
    assert first["predicted_adapter"] == prediction.adapter
    assert first["probabilities"] == prediction.route.probabilities
    assert first["abstained"] is prediction.route.abstained
    assert list(first["answers"]) == ["routed", "oracle", "base", "wrong"]
    assert set(first["answers"]["base"]) == {"adapter", "text", "point", "typed", "hit"}
    assert lines[10]["image"] is None
    assert (lines[10]["label"], lines[10]["adapter"]) == (-1, None)
    assert "answers" not in lines[10]


def pixels(counts: Sequence[Sequence[int]], names: Sequence[str]) -> np.ndarray:
    image = Image.open(io.BytesIO(confusion_png(counts, names, "title")))
    return np.asarray(image.convert("L")).astype(int)


@pytest.mark.parametrize("classes", [1, 3, 50])
def test_one_mistake_in_a_thousand_can_be_seen(classes: int):
    names = [f"adapter-with-a-long-name-that-is-cut-{n}" for n in range(classes)]
    counts = np.zeros((classes, classes + 1), int)
    np.fill_diagonal(counts, 1000)
    before = pixels(counts.tolist(), names)
    counts[0, classes] = 1
    counts[0, 0] -= 1
    after = pixels(counts.tolist(), names)
    assert before.shape == after.shape
    assert 400 < before.shape[0] < 4000
    # A cell of at least 20 by 20 pixels went from white to a blue that is clearly darker.
    assert (np.abs(before - after) > 20).sum() > 400


def test_an_evaluation_of_real_screens(tiny_engine, screens):
    every = read_samples_of(screens / "samples.jsonl", tiny_engine.router.labels)
    picked = every[::16]
    result = evaluate(tiny_engine, picked, by=["stratum", "widget"], task=False)
    assert result.in_scope is not None
    assert result.out_of_scope is not None
    assert result.in_scope.n + result.out_of_scope.n == len(picked)
    assert sum(group.n for group in result.by["widget"].values()) == len(picked)
