"""Checkpoints of an unfinished training: safetensors in small parts, and ``progress.json``.

The parts carry their step in their names, and ``progress.json``, written last, says which of them
belong together: whenever the process dies, the folder holds one whole checkpoint. Weights are
stored as bfloat16, momentum too; without the optimiser's parts training goes on all the same, its
momentum starting anew. ``log.jsonl`` is written along, so it never tells of more than was saved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointsman.errors import ArtefactError, MismatchError
from pointsman.files import read_json, read_object, read_tensors, write_json, write_tensors
from pointsman.files import write_text as write_file

from .network import Network
from .optimiser import Optimiser
from .tokenizer import load_tokenizer

PROGRESS = "progress.json"
LOG = "log.jsonl"
PART_BYTES = 15 * 2**20
_TIED = "stock.lm_head.weight"


@dataclass
class Progress:
    """How far the training is."""

    shape: str
    seed: int
    runs: int = 0
    step: int = 0
    seconds: float = 0.0
    """Of training, without start, evaluation and files"""
    screens: int = 0
    chunks: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)


def save(folder: Path, network: Network, optimiser: Optimiser, progress: Progress) -> None:
    weights = {n: t.detach() for n, t in network.state_dict().items() if n != _TIED}
    parts = {
        "weights": _write_parts(folder, "weights", progress.step, weights),
        "optimiser": _write_parts(folder, "optimiser", progress.step, optimiser.state()),
    }
    write_file(folder / LOG, "".join(json.dumps(line) + "\n" for line in progress.log))
    state = {key: value for key, value in asdict(progress).items() if key != "log"}
    write_json(folder / PROGRESS, state | {"parts": parts})
    for path in folder.glob("*.safetensors"):
        if path.name not in parts["weights"] + parts["optimiser"]:
            path.unlink()


def load(
    folder: Path, network: Network, optimiser: Optimiser | None, shape: str, seed: int
) -> Progress:
    """Takes up a checkpoint. Raises ``ArtefactError`` or ``MismatchError``."""
    state = read_object(folder / PROGRESS)
    parts = state.pop("parts", None)
    if not isinstance(parts, dict) or set(state) != {f.name for f in fields(Progress)} - {"log"}:
        raise ArtefactError(f"{folder / PROGRESS}: not the progress of a training of the base")
    if (state["shape"], state["seed"]) != (shape, seed):
        raise MismatchError(
            f"{folder}: has shape {state['shape']} and seed {state['seed']}, asked for were "
            f"{shape} and {seed}; choose another folder"
        )
    weights = _read_parts(folder, parts["weights"])
    wanted = set(network.state_dict()) - {_TIED}
    if set(weights) != wanted:
        first = sorted(set(weights) ^ wanted)[0]
        raise ArtefactError(f"{folder}: its weights do not fit the model, the first is {first}")
    network.load_state_dict(
        {name: tensor.float() for name, tensor in weights.items()}, strict=False
    )
    if optimiser is not None and all((folder / name).is_file() for name in parts["optimiser"]):
        optimiser.load(_read_parts(folder, parts["optimiser"]))
    lines = (folder / LOG).read_text("utf-8").splitlines() if (folder / LOG).is_file() else []
    return Progress(**state, log=[json.loads(line) for line in lines])


def load_base_weights(base: Path, network: Network) -> None:
    """Begins with an exported base. Raises ``ArtefactError`` or ``MismatchError``."""
    weights = read_tensors(base / "model.safetensors")
    if (base / "tokenizer.json").read_text("utf-8") != load_tokenizer().to_str():
        raise MismatchError(f"{base}: has another vocabulary; train a base from nothing")
    wanted = {f"stock.{name}": tensor for name, tensor in weights.items()}
    if set(wanted) != {n for n in network.state_dict() if n.startswith("stock.")} - {_TIED}:
        raise MismatchError(f"{base}: has another shape; choose its --shape")
    network.load_state_dict({n: tensor.float() for n, tensor in wanted.items()}, strict=False)


def has_checkpoint(folder: Path) -> bool:
    return (folder / PROGRESS).is_file()


def chunks_done(folder: Path) -> int:
    """Where the next run's chunks begin; 0 without a checkpoint."""
    return int(read_json(folder / PROGRESS)["chunks"]) if has_checkpoint(folder) else 0


def shape_and_seed(folder: Path) -> tuple[str, int]:
    state = read_json(folder / PROGRESS)
    return str(state["shape"]), int(state["seed"])


def _write_parts(folder: Path, name: str, step: int, tensors: Mapping[str, Tensor]) -> list[str]:
    parts: list[dict[str, Tensor]] = [{}]
    room = PART_BYTES
    for key, tensor in tensors.items():
        # Adam's count of steps must stay a whole number.
        kept = tensor.float() if tensor.dim() == 0 else tensor.to(torch.bfloat16)
        size = kept.numel() * kept.element_size()
        if size > room and parts[-1]:
            parts.append({})
            room = PART_BYTES
        parts[-1][key] = kept
        room -= size
    names = [f"{name}-{step:07d}-{index}.safetensors" for index in range(len(parts))]
    for file, part in zip(names, parts, strict=True):
        write_tensors(folder / file, part)
    return names


def _read_parts(folder: Path, names: list[str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name in names:
        tensors |= read_tensors(folder / name)
    return tensors
