"""Screens: a picture, an instruction, and the actions that answer it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pointsman.errors import ConfigError

from .canvas import Box, centre
from .questions import Question, ask_about
from .scene import Scene, draw_scene
from .widget import ADAPTERS

STRATA = ("plain", "image-decides", "text-decides", "out-of-scope", "near-out-of-scope")
OUT_OF_SCOPE = -1


@dataclass(frozen=True)
class Screen:
    """One sample. `label` counts the adapters in their usual order; -1 is out of scope.

    `action` is the assistant's turn and `task` one of `questions.TASKS`, None out of scope.
    """

    image: Image.Image
    instruction: str
    action: str | None
    label: int
    adapter: str | None
    bbox: Box | None
    stratum: str
    widget: str
    task: str | None = None


def click(box: Box, size: tuple[int, int]) -> str:
    """The tool call that clicks the middle of a box; coordinates are 0 to 1000."""
    x, y = centre(box)
    coordinate = [round(x / size[0] * 1000), round(y / size[1] * 1000)]
    # Without a space after the comma: it costs a token for every answer.
    arguments = (
        f'{{"action": "left_click", "coordinate": {json.dumps(coordinate, separators=(",", ":"))}}}'
    )
    return _call(arguments)


def enter(text: str) -> str:
    """The tool call that types a text."""
    return _call(json.dumps({"action": "type", "text": text}, ensure_ascii=False))


def _call(arguments: str) -> str:
    return f'<tool_call>\n{{"name": "computer_use", "arguments": {arguments}}}\n</tool_call>'


def make_screen(scene: Scene, question: Question, stratum: str) -> Screen:
    target, widget = question.target, question.widget
    if target is None or widget is None:
        return Screen(
            scene.image, question.instruction, None, OUT_OF_SCOPE, None, None, stratum, scene.name
        )
    action = click(target.box, scene.image.size)
    if question.typed is not None:
        action += "\n" + enter(question.typed)
    return Screen(
        image=scene.image,
        instruction=question.instruction,
        action=action,
        label=ADAPTERS.index(widget.adapter),
        adapter=widget.adapter,
        bbox=target.box,
        stratum=stratum,
        widget=scene.name,
        task=question.task,
    )


def draw_screen(
    rng: random.Random,
    adapter: str | None,
    stratum: str,
    size: tuple[int, int] | None = None,
    *,
    font_folders: Sequence[Path] = (),
) -> Screen:
    """Draws one screen.

    `adapter` is None for the out-of-scope strata. `font_folders` adds typefaces found there
    (NAME-Regular.ttf with NAME-Bold.ttf); without it the bytes depend on the random numbers only.
    """
    return draw_screens(rng, adapter, stratum, 1, size, font_folders=font_folders)[0]


def draw_screens(
    rng: random.Random,
    adapter: str | None,
    stratum: str,
    n_instructions: int = 4,
    size: tuple[int, int] | None = None,
    *,
    font_folders: Sequence[Path] = (),
) -> list[Screen]:
    """Draws one picture and asks several different things about it."""
    _check(adapter, stratum)
    scene = draw_scene(rng, adapter, stratum, size, font_folders)
    screens: dict[str, Screen] = {}
    for _ in range(n_instructions * 20):
        if len(screens) == n_instructions:
            break
        question = ask_about(rng, scene, stratum, adapter)
        screens.setdefault(question.instruction, make_screen(scene, question, stratum))
    return list(screens.values())


def _check(adapter: str | None, stratum: str) -> None:
    if stratum not in STRATA:
        raise ConfigError(f"stratum {stratum!r} is none of {', '.join(STRATA)}")
    outside = stratum.endswith("out-of-scope")
    if outside and adapter is not None:
        raise ConfigError(f"adapter {adapter!r} with stratum {stratum!r}: pass None")
    if not outside and adapter not in ADAPTERS:
        raise ConfigError(f"adapter {adapter!r} is none of {', '.join(ADAPTERS)}")
