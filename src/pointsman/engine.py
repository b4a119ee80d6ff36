"""Engine: base, adapters and router in memory; routes and generates.

One base serves both: adapters are off while it reads for the router, the vision tower runs once
for routing and answering together, and the reading stops at the router's layer.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import torch
from peft import PeftModel
from torch import Tensor

from pointsman.adapters import load_base_with_loras
from pointsman.base import Base, Encoded, Prompt
from pointsman.errors import ConfigError
from pointsman.features import extract
from pointsman.images import Source, load_image
from pointsman.project import FILE_NAME, Project, load_project
from pointsman.router import Route, Router
from pointsman.sample import user_turn

_OPENING, _CLOSING = re.compile(r"<tool_call>\s*"), re.compile(r"\s*</tool_call>")
_DECODER = json.JSONDecoder()
COORDINATE_RANGE = 1000
"""Qwen3-VL writes coordinates from 0 to this, whatever the image's size."""

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What an adapter (or the base) said."""

    text: str
    adapter: str | None
    """Who answered; None is the base"""
    actions: tuple[dict[str, Any], ...]
    """Arguments of the tool calls in the text, in order"""
    point: tuple[float, float] | None
    """The coordinate of the first action that has one, in pixels of the first image"""
    typed: str | None
    """What the actions type"""
    route: Route | None
    """The decision; None where the caller named the adapter"""


class Engine:
    """Routes and generates. Thread-safe: callers queue for the one thread that owns the model.

    Args:
        base: with every adapter of the router's label map loaded.
        router: trained on this base.

    Raises:
        MismatchError: the router belongs to another base.
        ConfigError: an adapter of the router's label map is not loaded.
    """

    def __init__(self, base: Base, router: Router) -> None:
        loaded = base.model.peft_config if isinstance(base.model, PeftModel) else {}
        if missing := [name for name in router.labels if name not in loaded]:
            raise ConfigError(
                f"adapter {missing[0]!r} of the router's label map {router.labels} is not loaded; "
                "add its path to [adapters]"
            )
        self.base, self.router = base, router
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="pointsman-model")
        try:
            self._own(self._check)
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_config(cls, path: str | Path = FILE_NAME, *, device: str | None = None) -> Self:
        """Loads everything that a project file names.

        Raises:
            PointsmanError: whatever is missing, broken or does not belong together.
        """
        return cls.from_project(load_project(Path(path)), str(path), device=device)

    @classmethod
    def from_project(cls, project: Project, where: str, *, device: str | None = None) -> Self:
        """Loads everything that a project names; ``where`` is its name in errors."""
        if project.router is None:
            raise ConfigError(f'{where}: needs router = "folder"; train one: `pointsman train`')
        router = Router.load(Path(project.router))
        project.labels.check_same(
            router.labels,
            where,
            f"the router {project.router}",
            "list [adapters] in the router's order, or train a router on this order",
        )
        base = load_base_with_loras(
            project.base,
            project.adapters,
            revision=project.revision,
            device=device,
            max_pixels=project.max_pixels,
        )
        return cls(base, router)

    @classmethod
    def pocket(cls, *, device: str | None = None) -> Self:
        """Loads the embedded pocket model: a tiny base, three adapters and a router."""
        with pocket_folder() as folder:
            return cls.from_config(folder / FILE_NAME, device=device)

    def route(self, image: Source | None, text: str) -> Route:
        """The decision for one request. Raises ``SampleError`` on a bad image."""
        return self.route_batch([make_prompt(image, text)])[0]

    def route_batch(self, prompts: Sequence[Prompt]) -> list[Route]:
        """Decisions for several requests, in one padded batch."""
        return self._own(lambda: route(self.base, self.router, prompts)[0])

    def generate(self, image: Source | None, text: str, *, max_new_tokens: int = 256) -> Answer:
        """Routes one request and answers it. Raises ``SampleError`` on a bad image."""
        prompt = make_prompt(image, text)
        return self.generate_batch([prompt], max_new_tokens=max_new_tokens)[0]

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        adapters: Sequence[str | None] | None = None,
        max_new_tokens: int = 256,
    ) -> list[Answer]:
        """Answers several requests, each with its own adapter.

        Args:
            adapters: who answers each prompt (None: the base); by default the router decides.

        Raises:
            LabelError: an adapter that the engine has not.
        """
        for name in adapters or ():
            if name is not None:
                self.router.labels.label(name)
        return self._own(
            lambda: route_and_generate(
                self.base, self.router, prompts, adapters=adapters, max_new_tokens=max_new_tokens
            )
        )

    def close(self) -> None:
        """Lets queued requests finish and ends the model's thread."""
        self._owner.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self) -> None:
        with _adapter(self.base, None):
            self.router.check_base(self.base)

    def _own(self, work: Callable[[], T]) -> T:
        """Runs ``work`` on the model's thread: active adapters are state of the shared model."""
        return self._owner.submit(work).result()


def make_prompt(image: Source | None, text: str) -> Prompt:
    """One user turn with at most one image. Raises ``ImageError``."""
    images = () if image is None else (load_image(image),)
    return Prompt((user_turn(text, len(images)),), images)


def route(
    base: Base, router: Router, prompts: Sequence[Prompt]
) -> tuple[list[Route], Encoded, dict[str, Any]]:
    """Decisions for a batch, and what answering it can use again: its tokens and image features.

    Adapters are off. Not thread-safe: call it from the thread that owns the model.
    """
    with torch.inference_mode(), _adapter(base, None):
        encoded = base.encode(prompts, padding_side="left")
        image_features = base.image_features(encoded)
        features = extract(base, encoded, router.recipe, image_features)[:, 0]
    return router.routes(features), encoded, image_features


def route_and_generate(
    base: Base,
    router: Router,
    prompts: Sequence[Prompt],
    *,
    adapters: Sequence[str | None] | None = None,
    max_new_tokens: int = 256,
) -> list[Answer]:
    """Routes a batch and answers each request greedily with its adapter (abstained: the base).

    The vision tower runs once per image. Requests of one adapter are answered together. Not
    thread-safe: call it from the thread that owns the model, as ``Engine.generate_batch`` does.

    Args:
        base: with the router's adapters loaded, as ``load_base_with_loras`` returns it.
        adapters: who answers each prompt (None: the base); by default the router decides.
    """
    if not prompts:
        return []
    if adapters is None:
        routes, encoded, image_features = route(base, router, prompts)
        decided: Sequence[Route | None] = routes
        names = [decision.adapter for decision in routes]
    else:
        if len(adapters) != len(prompts):
            raise ConfigError(f"{len(adapters)} adapters for {len(prompts)} prompts; give as many")
        decided, names = [None] * len(prompts), list(adapters)
        with torch.inference_mode(), _adapter(base, None):
            encoded = base.encode(prompts, padding_side="left")
            image_features = base.image_features(encoded)
    answers: dict[int, Answer] = {}
    for name in dict.fromkeys(names):
        rows = [row for row, other in enumerate(names) if other == name]
        batch, shown = _rows(prompts, encoded, image_features, rows)
        with torch.inference_mode(), _adapter(base, name):
            tokens = base.model.generate(
                **batch,
                mm_encoder_outputs=shown,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                # A checkpoint's own generation config may sample; ours is greedy.
                temperature=None,
                top_p=None,
                top_k=None,
            )
        new = tokens[:, batch["input_ids"].shape[1] :]
        for row, answer in zip(rows, new, strict=True):
            answers[row] = _answer(base.decode(answer), name, prompts[row], decided[row])
    return [answers[row] for row in range(len(prompts))]


def parse_actions(text: str) -> tuple[dict[str, Any], ...]:
    """The ``arguments`` of every tool call in an answer, in order.

    What is not a whole call (cut short, no JSON, no Unicode, no arguments) is left out.
    """
    actions, place = [], 0
    while opening := _OPENING.search(text, place):
        place = opening.end()
        try:
            call, end = _DECODER.raw_decode(text, place)
            json.dumps(call, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError):
            continue
        if not (closing := _CLOSING.match(text, end)):
            continue
        place = closing.end()
        arguments = call.get("arguments") if isinstance(call, dict) else None
        if isinstance(arguments, dict):
            actions.append(arguments)
    return tuple(actions)


def typed_text(actions: Sequence[Mapping[str, Any]]) -> str | None:
    """What the actions type, all together; None if they type nothing."""
    texts = [action.get("text") for action in actions if action.get("action") == "type"]
    typed = [text for text in texts if isinstance(text, str)]
    return "".join(typed) if typed else None


def action_point(action: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, float] | None:
    """An action's coordinate in pixels of an image of ``size`` (width, height)."""
    coordinate = action.get("coordinate")
    if not isinstance(coordinate, list) or len(coordinate) != 2:
        return None
    # A model may write anything here: words, NaN, or a number of 400 digits.
    if not all(type(v) in (int, float) and 0 <= v <= COORDINATE_RANGE for v in coordinate):
        return None
    x, y = (value / COORDINATE_RANGE * side for value, side in zip(coordinate, size, strict=True))
    return x, y


@contextmanager
def pocket_folder() -> Iterator[Path]:
    """The pocket model's files as a folder."""
    with as_file(files("pointsman.pocket") / "model") as folder:
        yield folder


@contextmanager
def _adapter(base: Base, name: str | None) -> Iterator[None]:
    """One adapter on, or all off, inside the block."""
    model = base.model
    if not isinstance(model, PeftModel):
        yield
    elif name is not None:
        # Without inference_mode PEFT would turn gradients on.
        model.set_adapter(name, inference_mode=True)
        yield
    else:
        try:
            with model.disable_adapter():
                yield
        finally:  # leaving disable_adapter turned gradients on
            model.set_adapter(model.active_adapter, inference_mode=True)


def _rows(
    prompts: Sequence[Prompt], encoded: Encoded, image_features: dict[str, Any], rows: list[int]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Some rows of a batch as ``generate`` takes them, and their images' features."""
    names = ("input_ids", "attention_mask", "mm_token_type_ids")
    tensors = cast(dict[str, Tensor], encoded)
    batch = {name: tensors[name][rows] for name in names}
    owners = [row for row, prompt in enumerate(prompts) for _ in prompt.images]
    kept = [index for index, owner in enumerate(owners) if owner in set(rows)]
    if not kept:
        return batch, {}
    batch["image_grid_thw"] = tensors["image_grid_thw"][kept]
    output = image_features["image"]
    picked = type(output)(
        pooler_output=[output.pooler_output[index] for index in kept],
        deepstack_features=[[level[i] for i in kept] for level in output.deepstack_features],
    )
    return batch, {"image": picked}


def _answer(text: str, adapter: str | None, prompt: Prompt, decision: Route | None) -> Answer:
    actions = parse_actions(text)
    click = next((action for action in actions if "coordinate" in action), {})
    point = action_point(click, prompt.images[0].size) if prompt.images else None
    return Answer(text.strip(), adapter, actions, point, typed_text(actions), decision)
