"""The trainer: batches of like length, images read ahead, progress told."""

import multiprocessing
import os
import shutil
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler, get_worker_info
from transformers import Trainer, TrainerCallback

from pointsman.adapters.activated import last_answer_only
from pointsman.conversation import Prompt
from pointsman.images import load_image
from pointsman.models.base import Base
from pointsman.progress import Progress
from pointsman.sample import RoutingSample

MAX_WORKERS = 12
"""Processes that read images ahead; more than this feeds any accelerator."""


class Samples(TorchDataset[RoutingSample]):
    """Samples as a trainer takes them."""

    def __init__(self, samples: Sequence[RoutingSample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> RoutingSample:
        return self.samples[index]


class ByLength(Sampler[int]):
    """Random batches of samples of like length: little padding, and the same on every run.

    Samples of one picture stay together, so that it is decoded and seen once for all of them.
    """

    def __init__(
        self, samples: Sequence[RoutingSample], lengths: Sequence[int], batch_size: int, seed: int
    ) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0
        pictures: dict[Any, list[int]] = {}
        for index, sample in enumerate(samples):
            pictures.setdefault(sample.images or index, []).append(index)
        self.pictures = list(pictures.values())

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.pictures), generator=chance).tolist()
        # Sorted all at once, the epochs would share their batches.
        reach = max(1, 16 * self.batch_size * len(self.pictures) // len(self))
        indices: list[int] = []
        for start in range(0, len(order), reach):
            near = [self.pictures[place] for place in order[start : start + reach]]
            near.sort(key=lambda picture: self.lengths[picture[0]])
            indices += [index for picture in near for index in picture]
        starts = range(0, len(indices), self.batch_size)
        batches = [indices[start : start + self.batch_size] for start in starts]
        last = len(batches) - 1  # it may be short, and a loader makes none but the last one short
        for number in [*torch.randperm(last, generator=chance).tolist(), last]:
            yield from batches[number]


class AdapterTrainer(Trainer):
    """transformers' trainer, with our batches, and worker processes that end with it."""

    def __init__(self, base: Base, order: ByLength, **options: Any) -> None:
        super().__init__(**options)
        self.base, self.order = base, order
        self.loader: Any = None

    def train_and_end_workers(self, checkpoint: str | None) -> None:
        try:
            self.train(resume_from_checkpoint=checkpoint)
        except BaseException as error:
            # Its frames hold a loader; left to the garbage collector, each worker takes 5 s to end.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            if getattr(self.loader, "_iterator", None) is not None:
                self.loader._iterator._shutdown_workers()

    def get_train_dataloader(self) -> Any:
        self.loader = super().get_train_dataloader()
        return self.loader

    def _get_train_sampler(self, *_: Any) -> Sampler[int]:
        return self.order

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        # The tower is frozen. On the CPU each image goes through it once, however many samples and
        # epochs show it; an accelerator has a whole batch done in the time of a few single images.
        alone = self.base.device.type == "cpu"
        features = None if alone else self.base.image_features_at_once(inputs)
        ready = self.base.model_inputs(inputs, features)
        return super().compute_loss(model, ready, *args, **kwargs)


class Reporter(TrainerCallback):
    """Tells ``progress`` of each optimiser step."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(state.global_step, state.max_steps)


def collate(batch: list[RoutingSample], base: Base, activated: bool) -> dict[str, Tensor]:
    """Samples as one padded batch with labels (B, T), on the CPU."""
    if get_worker_info() is not None:  # each has one core, and tokenizers warns of a fork
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    paths = {path for sample in batch for path in sample.images}
    images = {path: load_image(path) for path in paths}
    prompts = [Prompt(s.turns, tuple(images[path] for path in s.images)) for s in batch]
    encoded, labels = base.encode_answers(prompts)
    if activated:
        labels = last_answer_only(labels)
    return {**encoded, "labels": labels}  # type: ignore[dict-item]


def workers_for(base: Base, batch_size: int, lengths: Sequence[int]) -> int:
    """Processes to read images ahead of an accelerator.

    None on the CPU, where they would take the model's cores to save a few percent.
    """
    if base.device.type != "cuda" or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    processor = base.image_processor
    token_bytes = 3 * int(processor.merge_size * processor.patch_size) ** 2
    # Batches come through shared memory, two from each worker; containers may have only 64 MB.
    batch_bytes = batch_size * max(1, *lengths) * token_bytes
    room = shutil.disk_usage("/dev/shm").free // (4 * batch_bytes)
    cores = len(os.sched_getaffinity(0))
    return max(0, min(MAX_WORKERS, cores - 1, room, -(-len(lengths) // batch_size)))
