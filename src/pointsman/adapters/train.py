"""Training: fine-tunes a LoRA with the trainer of transformers."""

import multiprocessing
import os
import shutil
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler, get_worker_info
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from pointsman.adapters.activated import invocation_tokens, last_answer_only, one_answer_each
from pointsman.adapters.files import CONFIG, NOTE, WEIGHTS
from pointsman.adapters.layout import PROJECTIONS
from pointsman.conversation import Prompt
from pointsman.errors import ArtefactError, ConfigError, MismatchError, SampleError
from pointsman.files import read_object, refuse_other, write_json
from pointsman.images import image_size, load_image
from pointsman.labels import check_name
from pointsman.models.base import Base
from pointsman.progress import Progress, summary_writer
from pointsman.sample import RoutingSample

MAX_WORKERS = 12
"""At most this many processes read images ahead; more are never needed to feed an accelerator."""


@dataclass(frozen=True)
class AdapterSettings:
    """How an adapter is trained.

    Raises:
        ConfigError: a value is out of range.
    """

    rank: int = 16
    alpha: int = 32
    layers_from: int = 0
    """Decoder layers below this one are not adapted, so that the router can share them."""
    activated: bool = False
    """Train an activated LoRA: it acts only from what the chat template puts before an answer, so
    the whole prompt before it can be shared."""
    epochs: float = 1.0
    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 0
    save_every: int = 50
    """Optimiser steps between checkpoints: the most work that an interruption can lose."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name == "activated":
                continue
            if name in ("epochs", "learning_rate"):
                wrong, right = not value > 0, "more than 0"
            elif name == "seed":
                wrong, right = not 0 <= value < 2**32, "0 or more, below 2**32"
            else:
                least = 0 if name == "layers_from" else 1
                wrong, right = value < least, f"{least} or more"
            if wrong:
                raise ConfigError(f"{name} is {value}, out of range; give {right}")


def train_adapter(
    name: str,
    samples: Sequence[RoutingSample],
    base: Base,
    out: Path,
    settings: AdapterSettings | None = None,
    *,
    log_dir: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Path:
    """Fine-tunes a LoRA on every assistant turn of ``samples`` and writes a plain PEFT folder.

    An activated LoRA sees a conversation with several answers once per answer, truncated after it.
    An interrupted run leaves ``out/checkpoints``; the same call resumes from there.

    Args:
        base: the base without adapters; it is left as it was.
        progress: called with (optimiser steps done, total steps).
        workers: processes that read images and tokenise ahead of the model; by default as many as
            are worthwhile. Their number does not change a byte of the adapter.

    Raises:
        ArtefactError: ``out`` already holds an adapter, or cannot be written.
        ConfigError: the base lacks the layer, or an activated LoRA is wanted and the base's chat
            template has no invocation tokens.
        SampleError: no sample has an answer, or a sample cannot be read.
    """
    check_name(name)
    settings = settings or AdapterSettings()
    if settings.layers_from >= base.depth:
        raise ConfigError(f"layers_from {settings.layers_from}: the base has {base.depth} layers")
    if (out / CONFIG).is_file():
        raise ArtefactError(f"{out}: holds an adapter already; choose another --out or delete it")
    refuse_other(out, "an adapter")
    samples = [sample for sample in samples if sample.answer is not None]
    if not samples:
        raise SampleError(f"adapter {name}: no sample with an assistant turn to train on")
    if settings.activated:
        samples = [part for sample in samples for part in one_answer_each(sample)]
    config = _lora_config(settings, base)
    checkpoints = out / "checkpoints"
    _check_resumable(checkpoints, name, samples, settings, base)
    lengths = [_estimated_tokens(sample, base) for sample in samples]
    if workers is None:
        workers = _workers(base, settings.batch_size, lengths)
    torch.manual_seed(settings.seed)  # sets the initial LoRA weights
    model = get_peft_model(base.model, config)
    callbacks: list[TrainerCallback] = [_Reporter(progress)] if progress else []
    if log_dir is not None:
        callbacks.append(TensorBoardCallback(summary_writer(log_dir)))  # type: ignore[no-untyped-call]
    trainer = _Trainer(
        model=model,
        args=_arguments(checkpoints, settings, base, workers),
        train_dataset=_Samples(samples),
        data_collator=lambda batch: _collate(batch, base, settings.activated),
        callbacks=callbacks,
    )
    trainer.base, trainer.order = (
        base,
        _ByLength(samples, lengths, settings.batch_size, settings.seed),
    )
    trainer.remove_callback(PrinterCallback)
    last = get_last_checkpoint(str(checkpoints))  # type: ignore[no-untyped-call]
    try:
        trainer.train_and_end_workers(last)
    except SampleError as error:
        raise _as_raised(error) from None
    except (OSError, SafetensorError) as error:
        raise ArtefactError(
            f"{checkpoints}: cannot be written ({error}); free some space, delete it and run the "
            "same command again"
        ) from None
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    _save(model, out, _note(name, settings, base, len(samples), history))
    model.unload()
    base.model.requires_grad_(False).eval()
    shutil.rmtree(checkpoints)
    return out


class _Samples(TorchDataset[RoutingSample]):
    def __init__(self, samples: Sequence[RoutingSample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> RoutingSample:
        return self.samples[index]


class _ByLength(Sampler[int]):
    """Random batches of samples of similar length: little padding, and the same on every run.

    Samples of one picture stay together, so that it is decoded and encoded once for all of them.
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
        # Sorted all at once, every epoch would have the same batches.
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


class _Trainer(Trainer):
    base: Base
    order: _ByLength
    loader: Any = None

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
        # epochs show it; an accelerator does a whole batch in the time of a few single images.
        alone = self.base.device.type == "cpu"
        features = None if alone else self.base.image_features_at_once(inputs)
        ready = self.base.model_inputs(inputs, features)
        return super().compute_loss(model, ready, *args, **kwargs)


class _Reporter(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(state.global_step, state.max_steps)


def _collate(batch: list[RoutingSample], base: Base, activated: bool) -> dict[str, Tensor]:
    if get_worker_info() is not None:  # each has one core, and tokenizers warns of a fork
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    paths = {path for sample in batch for path in sample.images}
    images = {path: load_image(path) for path in paths}
    prompts = [Prompt(s.turns, tuple(images[path] for path in s.images)) for s in batch]
    encoded, labels = base.encode_answers(prompts)
    if activated:
        labels = last_answer_only(labels)
    return {**encoded, "labels": labels}  # type: ignore[dict-item]


def _estimated_tokens(sample: RoutingSample, base: Base) -> int:
    merge = int(base.image_processor.merge_size) ** 2
    sizes = [image_size(Path(image)) for image in sample.images]
    patches = [base.image_processor.get_number_of_image_patches(h, w) for w, h in sizes]
    return int(sum(patches)) // merge + sum(len(turn.text) for turn in sample.turns) // 4


def _workers(base: Base, batch_size: int, lengths: Sequence[int]) -> int:
    """The number of processes that read images ahead of an accelerator.

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


def _as_raised(error: SampleError) -> SampleError:
    """The original error of a sample: a worker process wraps its one line in a traceback."""
    kind = type(error)
    return kind(str(error).strip().rpartition(f"{kind.__name__}: ")[2])


def _lora_config(settings: AdapterSettings, base: Base) -> LoraConfig:
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        # A list: with a regex PEFT would not look at layers_to_transform.
        target_modules=list(PROJECTIONS),
        layers_to_transform=list(range(settings.layers_from, base.depth)),
        layers_pattern="layers",
        alora_invocation_tokens=invocation_tokens(base) if settings.activated else None,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base.id,
        revision=base.revision,
    )


def _arguments(
    checkpoints: Path, settings: AdapterSettings, base: Base, workers: int
) -> TrainingArguments:
    on_cuda = base.device.type == "cuda"
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=settings.batch_size,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_grad_norm=1.0,
        seed=settings.seed,
        save_steps=settings.save_every,
        save_total_limit=1,
        logging_steps=10,
        report_to=[],
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_prefetch_factor=2 if workers else None,
        # The workers inherit the base; none of them touches CUDA, which would not survive the fork.
        dataloader_multiprocessing_context="fork" if workers else None,
        dataloader_pin_memory=on_cuda,
        accelerator_config={"non_blocking": on_cuda},
        logging_nan_inf_filter=False,  # it waits for the device at every step
        use_cpu=base.device.type == "cpu",
        disable_tqdm=True,
        bf16=on_cuda or _has_fast_bf16(),
    )


def _has_fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices several times as fast as float32 ones."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _check_resumable(
    checkpoints: Path,
    name: str,
    samples: Sequence[RoutingSample],
    settings: AdapterSettings,
    base: Base,
) -> None:
    """Records what is being trained, or refuses checkpoints of something else."""
    request = {
        "name": name,
        "samples": len(samples),
        "settings": asdict(settings),
        "fingerprint": asdict(base.fingerprint),
    }
    path = checkpoints / "request.json"
    if path.is_file() and read_object(path) != request:
        raise MismatchError(
            f"{checkpoints}: holds checkpoints of another adapter, dataset, base or settings; "
            "delete it or choose another --out"
        )
    write_json(path, request)


def _note(
    name: str, settings: AdapterSettings, base: Base, samples: int, history: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": name,
        "base_model_id": base.id,
        "base_revision": base.revision,
        "fingerprint": asdict(base.fingerprint),
        "settings": asdict(settings),
        "samples": samples,
        "loss": [{"step": entry["step"], "loss": entry["loss"]} for entry in history],
    }


def _save(model: PeftModel, out: Path, note: dict[str, Any]) -> None:
    partial = out / "checkpoints" / "final"
    model.save_pretrained(str(partial))
    write_json(out / NOTE, note)
    for file in (WEIGHTS, CONFIG):  # the config last: it makes the folder an adapter
        (partial / file).replace(out / file)
