"""One run of the training: from the last checkpoint to the end of the budget."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pointsman.cli.console import note
from pointsman.files import write_bytes

from . import checkpoint
from .augment import character_targets, coloured, placed
from .checkpoint import Progress
from .config import SHAPES, TrainConfig
from .curves import curves_png
from .evaluate import evaluate_all
from .feed import Feed
from .loader import Loaded, load_chunks
from .network import Network
from .optimiser import Optimiser, rate_share
from .packing import Packer
from .phrases import TASKS
from .ranks import Ranks
from .tokenizer import ACTION, load_tokenizer

CURVES = "curves.png"
_MEASURED = 10
"""Accuracy is measured on every such step."""
_RESUMED_WARM_UP = 50
_IN_FLIGHT = 4
"""Steps that may be queued on the device: more would outrun the clock."""


@dataclass
class Meter:
    """Sums since the last line of the log, kept on the device until they are read."""

    device: torch.device
    losses: list[Tensor] = field(default_factory=list)
    right: Tensor = field(init=False)
    asked: Tensor = field(init=False)
    screens: int = 0
    waited: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.right = torch.zeros(len(TASKS) + 1, device=self.device)
        self.asked = torch.zeros(len(TASKS) + 1, device=self.device)

    def line(self) -> dict[str, Any]:
        passed = time.monotonic() - self.since
        text, characters = torch.stack(self.losses).mean(0).tolist()
        pairs = zip(TASKS, self.right.tolist(), self.asked.tolist(), strict=False)
        return {
            "loss": round(text, 4),
            "characters": round(characters, 4),
            "accuracy": {task: round(right / asked, 4) for task, right, asked in pairs if asked},
            "screens_per_second": round(self.screens / passed, 1),
            "waiting": round(self.waited / passed, 3),
        }


class Trainer:
    """The network under training, and how far it is."""

    def __init__(self, settings: TrainConfig, folder: Path, started: float, ranks: Ranks) -> None:
        torch.manual_seed(settings.seed)
        self._settings = settings
        self._folder = folder
        self._started = started
        self._ranks = ranks
        self._device = ranks.device
        self._packer = Packer(load_tokenizer(), settings.tokens)
        self._network = Network(SHAPES[settings.shape], self._packer).to(self._device)
        self._optimiser = Optimiser(self._network, settings.muon_rate, settings.adam_rate)
        self.progress = Progress(settings.shape, settings.seed)
        if checkpoint.has_checkpoint(folder):
            self.progress = checkpoint.load(
                folder, self._network, self._optimiser, settings.shape, settings.seed
            )
        elif settings.base is not None:
            checkpoint.load_base_weights(settings.base, self._network)
        self.progress.runs += 1
        self._uncounted = 0  # screens of this rank's last step
        # Without their momentum the first steps of a resumed run would be wild.
        self._cold_start = 0 if self._optimiser.has_momentum else self.progress.step
        if self._device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            # It makes a plan for each new shape, half a second each, and every canvas is one.
            torch.backends.cuda.enable_cudnn_sdp(False)
            if settings.compile:
                self._network.compile_layers()

    def evaluate(self) -> None:
        self._network.run_eagerly()
        scores = evaluate_all(self._network.eval(), self._packer, self._settings)
        lengths = self._network.stock.get_input_embeddings().weight.detach().norm(dim=1)
        actions = [self._packer.id(token) for token in ACTION]
        self._say(
            {
                "event": "evaluation",
                "step": self.progress.step,
                # Near 1: adapters can emit these tokens as easily as any other.
                "action_token_length": round(float(lengths[actions].mean() / lengths.median()), 3),
                "scores": scores,
            }
        )

    def save(self) -> None:
        progress = self.progress
        checkpoint.save(self._folder, self._network, self._optimiser, progress)
        if any(line["event"] == "train" for line in progress.log):
            count = f"{progress.screens:,} screens in {progress.seconds:,.0f} s"
            write_bytes(self._folder / CURVES, curves_png(progress.log, count))

    def train(self, feed: Feed) -> None:
        """Trains until the budget is used up but for the reserve, and saves now and then."""
        self._say({"event": "start", "run": self.progress.runs, "device": self._device.type})
        settings, progress = self._settings, self.progress
        self._network.train()
        chunks = load_chunks(feed, self._device)
        meter, in_flight = Meter(self._device), deque[Any]()
        done, saved = progress.seconds, time.monotonic()
        begun, end = 0.0, self._started + settings.budget_seconds - settings.reserve_seconds
        while True:
            share, goes_on, screens = self._ranks.agree(
                self._share(done, begun, end), self._has_time(end), self._uncounted
            )
            meter.screens += screens
            progress.screens += screens
            if not goes_on:
                break
            self._step(chunks, meter, share)
            if not begun:  # the first step compiles
                begun = time.monotonic()
            self._pace(in_flight)
            now = time.monotonic()
            progress.seconds = done + now - begun
            if now - meter.since > settings.log_seconds:
                self._log(meter, share)
                meter = Meter(self._device)
            if self._ranks.leads and now - saved > settings.save_seconds:
                self.save()
                saved = time.monotonic()
        chunks.close()
        if meter.losses:
            self._log(meter, 0.0)

    def _has_time(self, end: float) -> bool:
        if self._settings.steps:
            return self.progress.step < self._settings.steps
        return time.monotonic() < end

    def _done(self, done: float, begun: float, end: float) -> float:
        """Share of the training, in all runs, that is over."""
        if self._settings.steps:
            return self.progress.step / self._settings.steps
        of_a_run = max(1.0, end - (begun or time.monotonic()))
        return self.progress.seconds / (done + of_a_run * self._settings.runs_left)

    def _share(self, done: float, begun: float, end: float) -> float:
        settings, step = self._settings, self.progress.step
        over = self._done(done, begun, end)
        share = settings.rate_share * rate_share(
            step, over, settings.warm_up_steps, settings.decay_share
        )
        if self._cold_start:
            share *= min(1.0, (step - self._cold_start + 1) / _RESUMED_WARM_UP)
        self._character_weight = settings.characters_weight * max(0.2, 1 - 1.2 * over)
        return share

    def _step(self, chunks: Iterator[Loaded], meter: Meter, share: float) -> None:
        self._uncounted = 0
        for _ in range(self._settings.accumulate):
            before = time.monotonic()
            chunk = next(chunks)
            meter.waited += time.monotonic() - before
            self._accumulate(chunk, meter)
            self._uncounted += chunk.count
            # Workers hand over out of order: the next run begins behind the last.
            self.progress.chunks = max(self.progress.chunks, chunk.index + 1)
        self._ranks.average(self._network.parameters())
        self._optimiser.step(share)
        self.progress.step += 1

    def _accumulate(self, chunk: Loaded, meter: Meter) -> None:
        tensors, device = chunk.tensors, self._device
        chance = torch.Generator(device).manual_seed(self._settings.seed * 2**32 + chunk.index)
        images = placed(tensors["pixels"], chunk.canvas, tensors["view"], chance)
        images = coloured(images, chance)
        targets = character_targets(
            tensors["characters"], tensors["view"], chunk.size, chunk.canvas
        )
        ids, segments = tensors["ids"].long(), tensors["segments"].long()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits, seen = self._network(images, ids, segments)
        text = answer_loss(logits, ids, tensors["weights"].float())
        characters = character_loss(seen, targets)
        loss = text + self._character_weight * characters
        (loss / self._settings.accumulate).backward()  # type: ignore[no-untyped-call]
        meter.losses.append(torch.stack([text.detach(), characters.detach()]))
        if self.progress.step % _MEASURED == 0:
            right, asked = right_by_task(logits.detach(), tensors)
            meter.right += right
            meter.asked += asked

    def _pace(self, in_flight: deque[Any]) -> None:
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        in_flight.append(event)
        if len(in_flight) > _IN_FLIGHT:
            in_flight.popleft().synchronize()

    def _log(self, meter: Meter, share: float) -> None:
        progress = self.progress
        head = {
            "event": "train",
            "run": progress.runs,
            "step": progress.step,
            "seconds": round(progress.seconds, 2),
            "screens": progress.screens,
            "rate": round(share, 4),
        }
        self._say(head | meter.line())

    def _say(self, line: dict[str, Any]) -> None:
        self.progress.log.append(line)
        if self._ranks.leads:
            note(json.dumps(line))


def answer_loss(logits: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy of the next token: logits (B, T, V), ids and weights (B, T)."""
    losses = F.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    counts = weights[:, 1:].flatten()
    return (losses * counts).sum() / counts.sum().clamp(min=1)


def character_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """For each character that is there, so that empty screens do not drown the others."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum")
    return losses / (targets.sum() + 1)


def right_by_task(logits: Tensor, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Questions whose answer is right but for last digits, and all questions, by task.

    Both have a last entry, which counts padding.
    """
    ids, segments = tensors["ids"].long()[:, 1:], tensors["segments"].long()[:, 1:]
    counts = tensors["weights"][:, 1:] > 0.35
    wrong = (logits[:, :-1].argmax(-1) != ids) & counts
    batch, length = ids.shape
    row = torch.arange(batch, device=ids.device)[:, None] * length
    # A question's place in a table of every row's segments; padding is counted in the last.
    place = torch.where(segments >= 0, row + segments, batch * length).flatten()
    table = torch.zeros(batch * length + 1, device=ids.device)
    errors = table.index_add(0, place, wrong.flatten().float())
    tasks = torch.where(segments >= 0, tensors["tasks"].long()[:, 1:], len(TASKS)).flatten()
    task = torch.full((batch * length + 1,), len(TASKS), device=ids.device)
    task = task.scatter(0, place, tasks)
    asked = torch.zeros(len(TASKS) + 1, device=ids.device)
    right = asked.index_add(0, task, (errors == 0).float())
    return right, asked.index_add(0, task, torch.ones_like(errors))


def train(settings: TrainConfig, folder: Path, started: float | None = None) -> Progress:
    """One run. ``started`` (of ``time.monotonic``) is when its budget began.

    Under ``torchrun`` its ranks train together, each with ``settings.workers`` of its own.

    Raises:
        ArtefactError, MismatchError: the folder's checkpoint is broken or of another training.
    """
    started = time.monotonic() if started is None else started
    first = checkpoint.chunks_done(folder)
    ranks = Ranks()
    # Workers take seconds to start: before the network is built.
    with Feed(settings, first, ranks.rank, ranks.count) as feed:
        trainer = Trainer(settings, folder, started, ranks)
        trainer.train(feed)
    ranks.close()
    if ranks.leads:
        trainer.save()  # evaluation may be cut off
        trainer.evaluate()
        trainer.save()
    return trainer.progress
