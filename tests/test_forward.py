"""A forward's compiled steps; what it computes is tested against PEFT in ``test_engine``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from conftest import make_image
from pointsman.adapters import load_base_with_loras
from pointsman.base import Prompt, make_prompt
from pointsman.forward import Compiler, Forward
from pointsman.project import Project
from pointsman.stacked import Lora, Stack, lora_of

COUNTS = (3, 3, 2, 3, 1)
"""Requests at work in each step"""


@pytest.fixture
def run(tiny_project: Project, tmp_path: Path) -> Callable[[Compiler | None], Sequence[Tensor]]:
    prompts = [make_prompt(make_image(tmp_path / f"{i}.png", i), f"Pick {i}") for i in range(3)]
    return lambda compiler: logits_of(tiny_project, prompts, compiler)


def logits_of(
    project: Project, prompts: Sequence[Prompt], compiler: Compiler | None
) -> list[Tensor]:
    base = load_base_with_loras(project.base, project.adapters)
    loras = [lora_of(base.model, name) for name in project.labels]
    base = replace(base, model=base.model.unload())
    stack = Stack(base, [lora for lora in loras if isinstance(lora, Lora)])
    forward = Forward(base, stack, 4, compiler)
    encoded = base.encode(prompts)
    rows = torch.tensor([0, 1, stack.zero])
    features = base.image_features(encoded)
    found = [forward.prefill(encoded, features, [0, 1, 2], rows)]
    for step, count in enumerate(COUNTS):
        with torch.inference_mode():
            forward.tokens[: len(found[-1])] = found[-1].argmax(-1)
        found.append(forward.step(count, encoded["input_ids"].shape[1] + step))
    return found


def test_one_compiled_layer_serves_all_layers_and_batches(
    run: Callable[[Compiler | None], Sequence[Tensor]],
) -> None:
    """Traced whole, with nothing left to Python; once, and once more for batches of any size."""
    counter = CompileCounterWithBackend("eager")
    compiled = run(lambda layer: torch.compile(layer, backend=counter, fullgraph=True))
    assert counter.frame_count <= 3  # a single request is a case of its own
    for mine, theirs in zip(compiled, run(None), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)
