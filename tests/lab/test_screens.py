import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lab.screens import STRATA, Screen, draw_screen, draw_screens, write_screens
from lab.screens import typefaces as typefaces_module
from lab.screens.canvas import centre
from lab.screens.grammar import Phrases, every_form, expand, say, slots
from lab.screens.questions import TASKS, ask_about
from lab.screens.scene import Scene, draw_scene
from lab.screens.widget import ADAPTERS, Target
from pointsman.errors import ConfigError, MissingDependency

SIZE = (640, 448)
IN_SCOPE = [(adapter, stratum) for adapter in ADAPTERS for stratum in STRATA[:3]]
OUTSIDE = [(None, stratum) for stratum in STRATA[3:]]
KINDS: list[tuple[str | None, str]] = [*IN_SCOPE, *OUTSIDE]
ANSWER = re.compile(
    r'<tool_call>\n\{"name": "computer_use", "arguments": \{"action": "left_click", '
    r'"coordinate": \[(\d+),(\d+)\]\}\}\n</tool_call>'
    r'(?:\n<tool_call>\n\{"name": "computer_use", "arguments": \{"action": "type", '
    r'"text": "(.+)"\}\}\n</tool_call>)?'
)


def screens_of(adapter: str | None, stratum: str, count: int, seed: int = 0) -> list[Screen]:
    return [
        draw_screen(random.Random(f"{seed}/{index}"), adapter, stratum, SIZE)
        for index in range(count)
    ]


def clicked(screen: Screen) -> tuple[float, float]:
    assert screen.action is not None
    match = ANSWER.fullmatch(screen.action)
    assert match is not None, screen.action
    width, height = screen.image.size
    return int(match[1]) / 1000 * width, int(match[2]) / 1000 * height


@pytest.mark.parametrize(("adapter", "stratum"), KINDS)
def test_every_kind_draws_screens_that_hold_together(adapter: str | None, stratum: str) -> None:
    for screen in screens_of(adapter, stratum, 15):
        assert screen.image.size == SIZE
        assert screen.image.mode == "RGB"
        assert screen.instruction.strip() == screen.instruction != ""
        assert not set("[]{}|") & set(screen.instruction)
        assert (screen.stratum, screen.adapter) == (stratum, adapter)
        if adapter is None:
            assert (screen.label, screen.action, screen.bbox) == (-1, None, None)
            assert screen.task is None
            continue
        assert screen.task in TASKS
        assert screen.label == ADAPTERS.index(adapter)
        assert screen.bbox is not None
        left, top, right, bottom = screen.bbox
        assert 0 <= left < right <= SIZE[0]
        assert 0 <= top < bottom <= SIZE[1]
        x, y = clicked(screen)
        assert left <= x <= right
        assert top <= y <= bottom


@pytest.mark.parametrize(("adapter", "stratum"), IN_SCOPE)
def test_boxes_are_not_blank(adapter: str, stratum: str) -> None:
    for screen in screens_of(adapter, stratum, 15, seed=1):
        assert screen.bbox is not None
        # An input without a border differs only from what lies around it.
        left, top, right, bottom = (round(edge) for edge in screen.bbox)
        around = (max(0, left - 2), max(0, top - 2), right + 2, bottom + 2)
        assert np.asarray(screen.image.crop(around)).std(axis=(0, 1)).max() > 0.5


def test_sizes_vary_by_default() -> None:
    sizes = {
        draw_screen(random.Random(index), "calendar", "plain").image.size for index in range(30)
    }
    assert len(sizes) > 25
    assert all(512 <= width <= 1280 and 400 <= height <= 800 for width, height in sizes)


def test_small_canvases_have_room() -> None:
    for adapter, stratum in KINDS:
        assert draw_screen(random.Random(3), adapter, stratum, (512, 400)).image.size == (512, 400)
    with pytest.raises(ConfigError, match="choose a larger size"):
        draw_screen(random.Random(0), "calendar", "text-decides", (60, 40))


def test_a_wrong_adapter_or_stratum_is_refused() -> None:
    with pytest.raises(ConfigError, match="'charts'"):
        draw_screen(random.Random(0), "charts", "plain")
    with pytest.raises(ConfigError, match="'easy'"):
        draw_screen(random.Random(0), "calendar", "easy")
    with pytest.raises(ConfigError, match="pass None"):
        draw_screen(random.Random(0), "calendar", "out-of-scope")


@pytest.mark.parametrize(("adapter", "stratum"), KINDS)
def test_one_picture_takes_several_instructions(adapter: str | None, stratum: str) -> None:
    screens = draw_screens(random.Random(5), adapter, stratum, 6, SIZE)
    assert len({screen.instruction for screen in screens}) == 6
    assert all(screen.image is screens[0].image for screen in screens)
    assert {screen.stratum for screen in screens} == {stratum}


def scenes(stratum: str, count: int = 12) -> list[Scene]:
    return [
        draw_scene(random.Random(f"{adapter}{index}"), adapter, stratum, SIZE)
        for adapter in ADAPTERS
        for index in range(count)
    ]


@pytest.mark.parametrize("stratum", ["plain", "text-decides"])
def test_values_that_name_a_target_name_no_other(stratum: str) -> None:
    # These slots alone decide: whatever else a template says, one of them is in it.
    naming = {
        "day": ("day", "ordinal", "bare", "sole", "iso"),
        "field": ("field",),
        "button": ("button",),
        "row": ("name", "first", "last", "only"),
    }
    for scene in scenes(stratum):
        for widget in scene.widgets:
            seen: Counter[tuple[str, str]] = Counter()
            for target in widget.targets:
                for slot in naming.get(target.kind, ()):
                    if slot in target.values:
                        seen[slot, target.values[slot]] += 1
            assert set(seen.values()) <= {1}


@pytest.mark.parametrize("stratum", ["plain", "text-decides"])
def test_no_target_lies_under_the_click_of_another(stratum: str) -> None:
    for scene in scenes(stratum):
        targets = [target for widget in scene.widgets for target in widget.targets]
        for target in targets:
            x, y = centre(target.box)
            assert [other for other in targets if _holds(other, x, y)] == [target]


def _holds(target: Target, x: float, y: float) -> bool:
    return target.box[0] <= x <= target.box[2] and target.box[1] <= y <= target.box[3]


def test_an_instruction_means_the_same_target_each_time() -> None:
    for scene in [*scenes("plain", 4), *scenes("image-decides", 4), *scenes("text-decides", 4)]:
        stratum = "text-decides" if len(scene.widgets) > 1 else "plain"
        meant: dict[str, Target] = {}
        rng = random.Random(1)
        for _ in range(60):
            adapter = rng.choice(scene.widgets).adapter
            question = ask_about(rng, scene, stratum, adapter)
            assert question.target is not None
            text = question.instruction.lower().rstrip(".")
            assert meant.setdefault(text, question.target) == question.target, text


def test_counting_words_do_not_tell_the_adapter() -> None:
    instructions = {}
    for adapter in ADAPTERS:
        drawn = screens_of(adapter, "image-decides", 60, seed=2)
        instructions[adapter] = Counter(
            "last" if re.search("last|final", screen.instruction.lower()) else "rank"
            for screen in drawn
        )
        words = {word for screen in drawn for word in screen.instruction.lower().split()}
        assert not words & {"day", "date", "field", "doctor", "provider", "claim", "calendar"}
    shares = [counts["last"] / 60 for counts in instructions.values()]
    assert max(shares) < 0.3


def test_options_are_counted_in_order() -> None:
    for scene in scenes("image-decides", 6):
        (widget,) = scene.widgets
        if widget.adapter == "calendar":
            assert [option.values["day"] for option in widget.options] == [
                str(day) for day in range(1, len(widget.options) + 1)
            ]
        elif widget.adapter == "claim-window":
            # Down the columns: each next field is lower, or further right.
            for before, after in zip(widget.options, widget.options[1:], strict=False):
                assert after.box[1] > before.box[1] or after.box[0] > before.box[0]
            assert {option.kind for option in widget.options} == {"field"}


def test_month_arrows_are_asked_for_now_and_then() -> None:
    rng = random.Random(0)
    tasks: Counter[str | None] = Counter()
    for scene in scenes("plain", 10)[:10]:
        for _ in range(60):
            question = ask_about(rng, scene, "plain", "calendar")
            assert question.target is not None
            tasks[question.task] += 1
    asked = tasks["next-month"] + tasks["previous-month"]
    assert 0.1 < asked / tasks.total() < 0.18
    assert 0.08 < tasks["other-month"] / tasks.total() < 0.16


def test_the_grammar_settles_choices_and_keeps_slots() -> None:
    template = "[Go [up|down]|Stop|] {thing}"
    forms = every_form(template)
    assert forms == {"Go up {thing}", "Go down {thing}", "Stop {thing}", "{thing}"}
    assert {expand(random.Random(index), template) for index in range(60)} == forms
    assert slots(template) == {"thing"}
    phrases = Phrases(["[Click|Press] {name}"], ["{name} in {place}"])
    said = {say(random.Random(index), phrases, {"name": "Ada"}).lower() for index in range(40)}
    assert all("ada" in text for text in said)
    assert len(said) > 5


def test_the_same_seed_draws_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    write_screens(tmp_path / "here", 12, seed=4)
    code = (
        "import sys; from pathlib import Path; from lab.screens import write_screens; "
        "write_screens(Path(sys.argv[1]), 12, seed=4)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("per_image", [1, 4])
def test_written_samples_have_the_format(tmp_path: Path, per_image: int) -> None:
    done: list[int] = []
    adapters = ("provider-select", "calendar")
    write_screens(
        tmp_path,
        46,
        adapters=adapters,
        out_of_scope=0.4,
        per_image=per_image,
        sizes=[SIZE],
        progress=done.append,
    )
    samples = records(tmp_path / "samples.jsonl")
    assert len(samples) == done[-1] == 46
    assert len(list((tmp_path / "images").iterdir())) == len({s["image"] for s in samples})
    assert len({s["image"] for s in samples}) == -(-46 // per_image)
    for sample in samples:
        human, *rest = sample["conversations"]
        assert human["from"] == "human"
        assert human["value"].startswith("<image>\n")
        assert human["value"].count("<image>") == 1
        assert sample["size"] == list(SIZE)
        with Image.open(tmp_path / sample["image"]) as image:
            assert image.size == SIZE
        if sample["label"] == -1:
            assert sample["adapter"] is None
            assert rest == []
            assert not {"bbox", "task"} & set(sample)
            assert sample["stratum"].endswith("out-of-scope")
        else:
            assert adapters[sample["label"]] == sample["adapter"]
            (answer,) = rest
            match = ANSWER.fullmatch(answer["value"])
            assert match is not None
            assert sample["task"] in TASKS
            assert (sample["task"] == "type") == (match[3] is not None)
            left, _, right, _ = sample["bbox"]
            assert left <= int(match[1]) / 1000 * SIZE[0] <= right
            assert sample["bbox"] == [round(edge, 1) for edge in sample["bbox"]]
    assert {s["label"] for s in samples} == {-1, 0, 1}
    for adapter in adapters:
        own = records(tmp_path / f"{adapter}.jsonl")
        assert len(own) == sum(s["adapter"] == adapter for s in samples)
        assert all("label" not in record and "adapter" not in record for record in own)


def test_an_interrupted_run_continues(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop(done: int) -> None:
        if done == 5:
            raise Interrupted

    write_screens(tmp_path / "whole", 10, seed=9, sizes=[SIZE])
    with pytest.raises(Interrupted):
        write_screens(tmp_path / "broken", 10, seed=9, sizes=[SIZE], progress=stop)
    assert not (tmp_path / "broken" / "samples.jsonl").exists()
    kept = tmp_path / "broken" / "images" / "000001.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "broken" / "images" / "000002.png").unlink()
    write_screens(tmp_path / "broken", 10, seed=9, sizes=[SIZE])
    assert kept.stat().st_mtime_ns == before
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_longer_run_begins_like_a_shorter_one(tmp_path: Path) -> None:
    write_screens(tmp_path, 5, seed=2, per_image=2, sizes=[SIZE])
    short = records(tmp_path / "samples.jsonl")
    write_screens(tmp_path, 9, seed=2, per_image=2, sizes=[SIZE])
    assert records(tmp_path / "samples.jsonl")[:5] == short


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    write_screens(tmp_path, 1, seed=1, sizes=[SIZE])
    with pytest.raises(ConfigError, match="other settings"):
        write_screens(tmp_path, 1, seed=2, sizes=[SIZE])
    (tmp_path / "screens.json").unlink()
    with pytest.raises(ConfigError, match="other settings"):
        write_screens(tmp_path, 1, seed=1, sizes=[SIZE])


def test_wrong_settings_are_named_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'maps' cannot.*n is -1.*per_image is 0.*out_of_scope"):
        write_screens(tmp_path, -1, adapters=["maps"], per_image=0, out_of_scope=2)
    assert list(tmp_path.iterdir()) == []


def test_missing_fonts_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typefaces_module, "find_spec", lambda name: None)
    typefaces_module.bundled_families.cache_clear()
    with pytest.raises(MissingDependency, match="pip install font-roboto font-source-sans-pro"):
        draw_screen(random.Random(0), "calendar", "plain")


def test_other_fonts_come_only_from_named_folders(tmp_path: Path) -> None:
    family = typefaces_module.bundled_families()[0]
    (tmp_path / "Mine-Regular.ttf").write_bytes(family.regular.read_bytes())
    (tmp_path / "Mine-Bold.ttf").write_bytes(family.bold.read_bytes())
    names = {family.name for family in typefaces_module.families([tmp_path])}
    assert "Mine" in names
    assert "Mine" not in {family.name for family in typefaces_module.families()}
    screen = draw_screen(random.Random(0), "calendar", "plain", SIZE, font_folders=[tmp_path])
    assert screen.image.size == SIZE
