"""Training: fine-tunes a LoRA with the trainer of transformers."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from pointsman.adapters.activated import invocation_tokens, one_answer_each
from pointsman.adapters.files import CONFIG, NOTE, WEIGHTS
from pointsman.adapters.layout import PROJECTIONS
from pointsman.adapters.trainer import (
    AdapterTrainer,
    ByLength,
    Reporter,
    Samples,
    collate,
    workers_for,
)
from pointsman.errors import ArtefactError, ConfigError, MismatchError, SampleError
from pointsman.files import read_object, refuse_other, sole_run, write_json
from pointsman.images import image_size
from pointsman.labels import check_name
from pointsman.models.base import Base
from pointsman.progress import Progress, summary_writer
from pointsman.sample import RoutingSample


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
        ArtefactError: ``out`` already holds an adapter, cannot be written, or another run writes
            to it.
        ConfigError: the base lacks the layer or has FP8 weights, or an activated LoRA is wanted
            and the base's chat template has no invocation tokens.
        SampleError: no sample has an answer, or a sample cannot be read.
    """
    settings = settings or AdapterSettings()
    _check_request(name, base, out, settings)
    with sole_run(out):
        return _train(name, samples, base, out, settings, log_dir, progress, workers)


def _train(
    name: str,
    samples: Sequence[RoutingSample],
    base: Base,
    out: Path,
    settings: AdapterSettings,
    log_dir: Path | None,
    progress: Progress | None,
    workers: int | None,
) -> Path:
    samples = _to_train_on(name, samples, settings)
    checkpoints = out / "checkpoints"
    config = _lora_config(settings, base)
    _check_resumable(checkpoints, name, samples, settings, base)
    lengths = [_estimated_tokens(sample, base) for sample in samples]
    if workers is None:
        workers = workers_for(base, settings.batch_size, lengths)
    torch.manual_seed(settings.seed)  # decides how the LoRA weights start
    model = get_peft_model(base.model, config)
    trainer = AdapterTrainer(
        base,
        ByLength(samples, lengths, settings.batch_size, settings.seed),
        model=model,
        args=_arguments(checkpoints, settings, base, workers),
        train_dataset=Samples(samples),
        data_collator=lambda batch: collate(batch, base, settings.activated),
        callbacks=_callbacks(progress, log_dir),
    )
    trainer.remove_callback(PrinterCallback)
    _run(trainer, checkpoints)
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    _save(model, out, _note(name, settings, base, len(samples), history))
    model.unload()
    base.model.requires_grad_(False).eval()
    shutil.rmtree(checkpoints)
    return out


def _check_request(name: str, base: Base, out: Path, settings: AdapterSettings) -> None:
    check_name(name)
    if settings.layers_from >= base.depth:
        raise ConfigError(f"layers_from {settings.layers_from}: the base has {base.depth} layers")
    if base.precision == "fp8":
        raise ConfigError(f"{base.id}: FP8 weights are not trained on; give dtype bfloat16")
    if (out / CONFIG).is_file():
        raise ArtefactError(f"{out}: holds an adapter already; choose another --out or delete it")
    refuse_other(out, "an adapter")


def _to_train_on(
    name: str, samples: Sequence[RoutingSample], settings: AdapterSettings
) -> list[RoutingSample]:
    """The samples that have an answer; of an activated LoRA each answer is one."""
    answered = [sample for sample in samples if sample.answer is not None]
    if not answered:
        raise SampleError(f"adapter {name}: no sample with an assistant turn to train on")
    if not settings.activated:
        return answered
    return [part for sample in answered for part in one_answer_each(sample)]


def _estimated_tokens(sample: RoutingSample, base: Base) -> int:
    sizes = [image_size(Path(image)) for image in sample.images]
    return base.estimated_tokens(sum(len(turn.text) for turn in sample.turns), sizes)


def _callbacks(progress: Progress | None, log_dir: Path | None) -> list[TrainerCallback]:
    callbacks: list[TrainerCallback] = [Reporter(progress)] if progress else []
    if log_dir is not None:
        callbacks.append(TensorBoardCallback(summary_writer(log_dir)))  # type: ignore[no-untyped-call]
    return callbacks


def _run(trainer: AdapterTrainer, checkpoints: Path) -> None:
    """Trains from the last checkpoint on, to the end."""
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
