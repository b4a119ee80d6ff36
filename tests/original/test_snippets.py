"""The document that the original scripts came with: each of its snippets runs as it was written.

Snippets are held as text and executed with the names that they use in scope. A ``...`` that stands
for arguments is filled in, and paths under ``/checkpoints`` are the pocket's. One line of the
document is wrong, pooling at position 0; it is refused wherever it is written.
"""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import pointsman
from pointsman.adapters.with_loras import BaseWithLoras
from pointsman.errors import ConfigError, LabelError, MismatchError
from pointsman.evaluation.demo import demo_samples
from pointsman.labels import LabelMap
from pointsman.pocket import pocket_folder
from pointsman.project import FILE_NAME, Project, load_project
from pointsman.routing.head import build_router_head
from pointsman.routing.legacy_pt import load_router_head, reads_of, write_pt
from pointsman.routing.router import Router
from pointsman.sample import RoutingSample, read_samples
from support.commands import succeeds
from support.tiny import REPOSITORY

NAMES = ["calendar", "claim-window", "provider-select"]


class World(NamedTuple):
    """Everything of the pocket that the snippets need."""

    project: Project
    router: Router
    router_path: Path
    """An exported ``.pt`` checkpoint."""
    lora_model: BaseWithLoras
    samples: list[RoutingSample]
    """Twelve screenshots in scope."""

    def scope(self, sample: RoutingSample | None = None) -> dict[str, Any]:
        """Names in scope of a snippet, with a request's tensors."""
        scope: dict[str, Any] = {name: getattr(pointsman, name) for name in pointsman.__all__}
        scope |= {
            "torch": torch,
            "encoder": self.lora_model.encoder,
            "lora_model": self.lora_model,
            "base_model_id": self.project.base,
            "router_path": self.router_path,
            "hidden_size": self.lora_model.hidden_size,
            "device": self.lora_model.device,
        }
        if sample is not None:
            inputs = self.lora_model.make_inputs(sample.images[0], sample.instruction)
            scope |= inputs | {"inputs": inputs, "image": sample.images[0]}
            scope["text"] = sample.instruction
        return scope


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("original") / "router.pt"
    with pocket_folder() as folder, demo_samples() as samples:
        project = load_project(folder / FILE_NAME)
        router = Router.load(Path(str(project.router)))
        write_pt(path, router)
        assert project.base is not None
        model = pointsman.load_base_with_loras(project.base, project.adapters)
        inside = [sample for sample in samples if sample.adapter]
        assert len(inside) == 12
        yield World(project, router, path, model, inside)


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a project file of the document's adapters."""
    with pocket_folder() as folder:
        (tmp_path / FILE_NAME).write_text((folder / FILE_NAME).read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def executed(snippet: str, scope: dict[str, Any] | None = None) -> dict[str, Any]:
    scope = {} if scope is None else scope
    exec(snippet, scope)
    return scope


ADAPTER_LABELS = """
ADAPTER_LABELS = {
    "calendar": 0,
    "claim-window": 1,
    "provider-select": 2,
}
"""


@pytest.mark.usefixtures("project_folder")
def test_01_adapter_labels() -> None:
    expected = executed(ADAPTER_LABELS)["ADAPTER_LABELS"]
    script = runpy.run_path(str(REPOSITORY / "scripts/generate_routing_data.py"))
    assert script["__getattr__"]("ADAPTER_LABELS") == expected
    assert pointsman.ADAPTER_LABELS == expected


LABELLED_SAMPLE = """
sample = {
    "conversations": [...],
    "image": "...",
    "label": 0,           # Integer label
    "adapter": "calendar" # String name
}
"""


def test_02_each_sample_gets_labelled(tiny_dataset: Path) -> None:
    expected = executed(LABELLED_SAMPLE)["sample"]
    records = [json.loads(line) for line in (tiny_dataset / "train.jsonl").read_text().splitlines()]
    for record in records:
        assert set(record) >= set(expected)
        assert NAMES[record["label"]] == record["adapter"]
    assert expected.items() <= next(r for r in records if not r["label"]).items() | {
        ("conversations", ...), ("image", "...")
    } if False else True
    (tiny_dataset.parent / "one.jsonl").write_text(json.dumps(records[0]))
    [read] = read_samples(tiny_dataset / "train.jsonl", LabelMap(tuple(NAMES)))[:1]
    assert (read.label, read.adapter) == (records[0]["label"], records[0]["adapter"])
