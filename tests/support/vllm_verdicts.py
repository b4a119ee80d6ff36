"""What a real vLLM does with an adapter, and what ``adapters check --target vllm`` says of it."""

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pointsman.adapters.check.check import check_adapter
from pointsman.adapters.check.vllm import REFUSED, SILENT
from pointsman.models.base import Base, load_base, load_skeleton
from pointsman.models.features import probe_prompts
from support.peft_reference import log_probabilities
from support.tiny import REPOSITORY
from support.vllm_adapters import COMPUTES, DEVIATES, REFUSES
from support.vllm_server import VllmServer, serve

POCKET = REPOSITORY / "src/pointsman/pocket/model/base"
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "tower": {"max_lora_rank": 32, "enable_tower_connector_lora": True},
}
"""Options of ``vllm serve`` that decide on adapters"""
TOLERANCE = 0.05
"""Nats. Equal answers differ by 0.01 at most (large random LoRAs in the tower), others by 0.1."""


@dataclass(frozen=True)
class Served:
    """A base in a vLLM with certain options, and the same base here."""

    server: VllmServer
    base: Base
    skeleton: Base
    options: dict[str, Any]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def verdict(self, folder: Path) -> str:
        """vLLM's: whether it loads the adapter, and then answers as PEFT does."""
        name = f"adapter-{next(self._numbers)}"
        if self.server.load(name, folder) is not None:
            return REFUSES
        prompt = next(probe_prompts())
        text = prompt.turns[0].parts[-1]
        assert text is not None
        found = self.server.log_probabilities(name, text, prompt.images[0])
        self.server.unload(name)
        expected = log_probabilities(self.base, prompt, folder)
        if expected is None:
            return DEVIATES
        largest = max(abs(float(expected[token]) - value) for token, value in found.items())
        return COMPUTES if largest < TOLERANCE else DEVIATES

    def lint(self, folder: Path) -> str:
        return lint(folder, self.skeleton, self.options)


def lint(folder: Path, skeleton: Base, options: dict[str, Any]) -> str:
    """The verdict that the codes of ``adapters check --target vllm`` mean."""
    found = check_adapter(folder, skeleton, target="vllm", **options).errors
    codes = {finding.kind for finding in found}
    if codes & set(REFUSED):
        return REFUSES
    return DEVIATES if codes & set(SILENT) else COMPUTES


@contextmanager
def served(which: str, folder: Path) -> Iterator[Served]:
    """Starts a vLLM with one of ``OPTIONS``: that of the tower has a base with a head of its own.

    Args:
        folder: an empty folder, for the base and vLLM's output.
    """
    options = OPTIONS[which]
    path = POCKET if which == "default" else untied(folder / "base")
    given = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    words = [w for name, v in given.items() for w in ([name] if v is True else [name, str(v)])]
    with serve(path, folder / "vllm.log", *words) as server:
        base = load_base(str(path), dtype="float32")
        yield Served(server, base, load_skeleton(str(path)), options)


def untied(folder: Path) -> Path:
    """The pocket's base with a head that is not its embeddings."""
    shutil.copytree(POCKET, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    tensors = load_file(folder / "model.safetensors")
    embeddings = tensors["model.language_model.embed_tokens.weight"]
    noise = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0)) * 0.05
    tensors["lm_head.weight"] = embeddings + noise.to(embeddings.dtype)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder
