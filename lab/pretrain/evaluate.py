"""Scores of the base on fresh screens: exact answers, and points inside their box, by task."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lab.screens.canvas import Box
from lab.screens.grammar import slots

from .augment import compressed, resized
from .config import SHAPES, TrainConfig
from .corpus import Asker, Question, View
from .feed import draw, draw_size
from .network import Network
from .packing import PADDING, Packer
from .phrases import TASKS

HELD_OUT = Path(__file__).parent / "heldout.json"
_SIZES = 8
_OF_A_TASK = 2
"""Questions of each task for each screen"""


@dataclass(frozen=True)
class Item:
    """One question of a screen in tokens, the right answer, and where a point must lie."""

    task: str
    prompt: list[int]
    answer: list[int]
    box: Box | None


@dataclass(frozen=True)
class Batch:
    """Screens of one size as they were drawn, with their questions."""

    pixels: Tensor
    """(B, height, width, 3) bytes"""
    canvas: tuple[int, int]
    items: list[list[Item]]


def held_out_phrasings() -> dict[str, list[str]]:
    """Phrasings by task, with slots, that training never uses."""
    phrasings: dict[str, list[str]] = json.loads(HELD_OUT.read_text("utf-8"))
    return phrasings


def fresh_batches(packer: Packer, settings: TrainConfig) -> Iterator[tuple[Batch, Batch]]:
    """Screens from seeds that training never draws, of several sizes.

    Each batch comes twice: with questions as in training, and in held-out phrasings.
    """
    per_size = max(1, settings.evaluation_screens // _SIZES)
    phrasings = held_out_phrasings()
    for number in range(min(_SIZES, settings.evaluation_screens)):
        size = draw_size(random.Random(f"{settings.seed}/evaluate/{number}"), settings)
        images, asked, reworded = [], [], []
        for index in range(per_size):
            rng = random.Random(f"{settings.seed}/evaluate/{number}/{index}")
            layout = draw(rng, size, settings.sheets, settings.fonts)
            asker = Asker(rng, layout, View(size))
            images.append(np.asarray(layout.image))
            asked.append(list(_items(rng, packer, asker, {})))
            reworded.append(list(_items(rng, packer, asker, phrasings)))
        pixels, canvas = torch.from_numpy(np.stack(images)), SHAPES[settings.shape].canvas(size)
        yield Batch(pixels, canvas, asked), Batch(pixels, canvas, reworded)


def _items(
    rng: random.Random, packer: Packer, asker: Asker, phrasings: dict[str, list[str]]
) -> Iterator[Item]:
    for task in TASKS:
        for _ in range(_OF_A_TASK):
            if task == "copy":
                if not phrasings:
                    prompt, answer, _ = packer.copy(rng)
                    yield Item(task, prompt, answer, None)
                continue
            question = asker.ask_of(task)
            if question is not None:
                text = _reworded(rng, question, phrasings.get(task, []))
                if text is not None:
                    prompt, answer, _ = packer.answered(question)
                    yield Item(task, packer.prompt(text), answer, question.box)


def _reworded(rng: random.Random, question: Question, phrasings: Sequence[str]) -> str | None:
    """The question in a held-out phrasing; None where none has just its slots."""
    if not phrasings:
        return question.text
    fitting = [text for text in phrasings if slots(text) == _needed(question)]
    if not fitting:
        return None
    text = rng.choice(fitting)
    for slot, value in question.values.items():
        text = text.replace("{" + slot + "}", value)
    return text


def _needed(question: Question) -> frozenset[str]:
    """The slots that make a question; of the ways to say a rank one is enough, as is one fact."""
    if question.task.startswith("rank"):
        return frozenset({"ordinal", "thing", "order"})
    if question.task == "fact":
        return frozenset({"name", "value"})
    return frozenset(question.values)


@torch.no_grad()
def answers(
    network: Network, packer: Packer, batch: Batch, images: Tensor
) -> list[list[list[int]]]:
    """Greedy answers to every item, packed as in training; tokens up to the end of the answer."""
    rows, places = _rows(batch, packer)
    found: list[list[list[int]]] = [[] for _ in batch.items]
    if not places:
        return found
    device = images.device
    ids = torch.tensor(rows[0], device=device)
    segments = torch.tensor(rows[1], device=device)
    row = torch.tensor([place[0] for place in places], device=device)
    start = torch.tensor([place[1] for place in places], device=device)
    room = torch.tensor([place[2] for place in places], device=device)
    seen = network.see(images)
    for step in range(int(room.max())):
        column = start + torch.minimum(torch.full_like(room, step), room - 1)
        chosen = network.read(seen, ids, segments)[row, column - 1].argmax(-1)
        ids[row, column] = torch.where(room > step, chosen, ids[row, column])
    written = ids.tolist()
    for line, first, length in places:
        tokens = written[line][first : first + length]
        end = tokens.index(packer.end) + 1 if packer.end in tokens else length
        found[line].append(tokens[:end])
    return found


def _rows(
    batch: Batch, packer: Packer
) -> tuple[tuple[list[list[int]], list[list[int]]], list[tuple[int, int, int]]]:
    """Tokens and segments with room for each answer; row, place and length of each room."""
    ids: list[list[int]] = []
    segments: list[list[int]] = []
    places = []
    for row, items in enumerate(batch.items):
        line: list[int] = []
        owners: list[int] = []
        for number, item in enumerate(items):
            # Longer than the right answer is wrong anyhow; points may be longer and right.
            room = max(len(item.answer), 8) if item.box else len(item.answer)
            places.append((row, len(line) + len(item.prompt), room))
            line += item.prompt + [0] * room
            owners += [number] * (len(item.prompt) + room)
        ids.append(line)
        segments.append(owners)
    length = -(-max(map(len, ids)) // 32) * 32
    for line, owners in zip(ids, segments, strict=True):
        line += [0] * (length - len(line))
        owners += [PADDING] * (length - len(owners))
    return (ids, segments), places


def evaluate(
    network: Network,
    packer: Packer,
    batches: Iterable[Batch],
    change: Callable[[Tensor], Tensor] = lambda images: images,
) -> dict[str, dict[str, float]]:
    """By task: how many, share of exact answers, and share of points inside their box."""
    device = network.device
    scores: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for batch in batches:
        images = change(resized(batch.pixels.to(device), batch.canvas))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = answers(network, packer, batch, images)
        for items, given in zip(batch.items, found, strict=True):
            for item, tokens in zip(items, given, strict=True):
                is_exact = tokens == item.answer
                inside = is_exact or (item.box is not None and _lies_in(packer, tokens, item.box))
                scores[item.task].append((is_exact, inside))
    return {
        task: {
            "count": len(pairs),
            "exact": round(sum(exact for exact, _ in pairs) / len(pairs), 4),
            "inside": round(sum(inside for _, inside in pairs) / len(pairs), 4),
        }
        for task, pairs in scores.items()
    }


def evaluate_all(
    network: Network, packer: Packer, settings: TrainConfig
) -> dict[str, dict[str, dict[str, float]]]:
    """Scores as they are, in unseen phrasings, light on dark, compressed, and on blank images."""
    pairs = list(fresh_batches(packer, settings))
    fresh, reworded = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "fresh": evaluate(network, packer, fresh),
        "held-out phrasings": evaluate(network, packer, reworded),
        "inverted": evaluate(network, packer, fresh, torch.neg),
        "JPEG 60": evaluate(network, packer, fresh, _jpeg),
        "blank image": evaluate(network, packer, fresh, torch.ones_like),
    }


def _jpeg(images: Tensor) -> Tensor:
    return compressed(images, torch.full((len(images), 1, 1, 1), 60.0, device=images.device))


def _lies_in(packer: Packer, tokens: list[int], box: Box) -> bool:
    numbers = packer.text(tokens).split(",")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return False
    x, y = (int(number) / 1000 for number in numbers)
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]
