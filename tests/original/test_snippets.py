"""The document that the original scripts came with: each of its snippets runs as it was written.

Snippets are held as text and executed with the names that they use in scope. A ``...`` that stands
for arguments is filled in, and paths under ``/checkpoints`` are the pocket's. One line of the
document is wrong, pooling at position 0; it is refused wherever it is written.
"""
# ruff: noqa: E501

import json
import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import pointsman
from pointsman.adapters.with_loras import BaseWithLoras
from pointsman.conversation import Prompt, make_prompt
from pointsman.errors import ConfigError, LabelError, MismatchError
from pointsman.evaluation.demo import demo_samples
from pointsman.labels import LabelMap
from pointsman.pocket import pocket_folder
from pointsman.project import FILE_NAME, Project, load_project
from pointsman.routing.feature_store import Features
from pointsman.routing.head import build_router_head
from pointsman.routing.legacy_pt import load_router_head, reads_of, write_pt
from pointsman.routing.router import Router
from pointsman.sample import RoutingSample, read_samples
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
    assert expected == pointsman.ADAPTER_LABELS


LABELLED_SAMPLE = """
sample = {
    "conversations": [...],
    "image": "...",
    "label": 0,           # Integer label
    "adapter": "calendar" # String name
}
"""


def test_02_each_sample_gets_labelled(tiny_dataset: Path) -> None:
    sample = executed(LABELLED_SAMPLE)["sample"]
    lines = (tiny_dataset / "train.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        assert set(record) >= set(sample)
        assert NAMES[record["label"]] == record["adapter"]
    labelled = (sample["label"], sample["adapter"])
    assert labelled in [(record["label"], record["adapter"]) for record in records]
    read = read_samples(tiny_dataset / "train.jsonl", LabelMap(tuple(NAMES)))
    assert [r.adapter for r in read] == [record["adapter"] for record in records]


CHECKPOINT = """
torch.save({
    "state_dict": final_state_dict,      # Router head weights
    "adapters": ["calendar", "claim-window", "provider-select"],  # THIS IS THE KEY MAPPING
    "base_model_id": base_model_id,
    "best_loss": best_loss,
    "best_acc": best_acc,
}, output_path)
"""


def test_03_checkpoint_fields(world: World, tmp_path: Path) -> None:
    head = build_router_head(world.lora_model.hidden_size, 3).eval()
    scope = world.scope() | {
        "final_state_dict": head.state_dict(),
        "best_loss": 0.25,
        "best_acc": 0.75,
        "output_path": tmp_path / "router.pt",
    }
    executed(CHECKPOINT, scope)
    loaded, adapters = load_router_head(tmp_path / "router.pt", head.hidden_size, "cpu")
    assert adapters == NAMES
    x = torch.randn(2, head.hidden_size)
    assert torch.equal(loaded(x), head(x))
    written = set(torch.load(tmp_path / "router.pt"))
    exported = torch.load(world.router_path)
    assert set(exported) == written | {"reads"}
    assert exported["best_acc"] == world.router.best_acc


ADAPTERS_LIST = """
- Index 0 → "calendar"
- Index 1 → "claim-window"
- Index 2 → "provider-select"
"""


def test_04_the_list_maps_indices(world: World) -> None:
    adapters = torch.load(world.router_path)["adapters"]
    lines = [f'- Index {index} → "{name}"' for index, name in enumerate(adapters)]
    assert lines == ADAPTERS_LIST.split("\n")[1:-1]


LOAD_ROUTER_HEAD = """
def load_router_head(path, hidden_size, device):
    checkpoint = torch.load(path)
    adapters = checkpoint["adapters"]  # Load the mapping: ["calendar", "claim-window", "provider-select"]
    head = build_router_head(hidden_size, num_labels=len(adapters))
    head.load_state_dict(checkpoint["state_dict"])
    return head, adapters  # Returns both the model AND the mapping
"""


def both_loaders(world: World) -> list[Any]:
    """The library's loader and the document's own."""
    return [load_router_head, executed(LOAD_ROUTER_HEAD, world.scope())["load_router_head"]]


def test_05_load_router_head(world: World) -> None:
    x = world.router.probes.features
    for load in both_loaders(world):
        for path in (world.router_path, str(world.router_path)):
            for device in ("cpu", torch.device("cpu")):
                head, adapters = load(path, world.lora_model.hidden_size, device)
                assert adapters == NAMES
                assert not head.training
                assert torch.equal(head(x), world.router.head(x))


ENCODE = """
outputs = encoder(input_ids, attention_mask, pixel_values, image_grid_thw, output_hidden_states=True)
"""


def test_06_encode_image_and_text(world: World) -> None:
    outputs = executed(ENCODE, world.scope(world.samples[0]))["outputs"]
    model = world.lora_model
    assert len(outputs.hidden_states) == model.depth + 1
    with torch.no_grad(), model.disable_adapter():
        stock = model.encode([prompt(world.samples[0])])
        expected = model.core(
            **model.stock_inputs(stock), output_hidden_states=True, use_cache=False
        ).hidden_states
    for mine, theirs in zip(outputs.hidden_states, expected, strict=True):
        assert mine.shape == theirs.shape
        assert torch.equal(mine[:, -1], theirs[:, -1])  # DeepStack adds to image tokens alone


POOLING = """
hidden = outputs.hidden_states[-1][:, 0, :]  # Extract hidden state
"""


def test_07_position_0_is_refused_and_its_replacement_is_right(world: World) -> None:
    """The document's one error, on twelve screenshots, in each way it can be made."""
    heads = [
        load(world.router_path, world.lora_model.hidden_size, "cpu")[0]
        for load in both_loaders(world)
    ]
    line = torch.load(world.router_path)["reads"]["line"]
    assert line == reads_of(world.router).line
    right = [0, 0]
    for sample in world.samples:
        scope = executed(ENCODE, world.scope(sample))
        with pytest.raises(ConfigError, match="the same for every image and text"):
            executed(POOLING, scope)
        # An encoder of the reader's own gives plain tensors: then it is the head that refuses.
        for states in scope["outputs"].hidden_states:
            at_0 = states.as_subclass(Tensor)[:, 0, :]
            for head in heads:
                with pytest.raises(MismatchError) as error:
                    head(at_0)
        assert line in str(error.value)
        executed(line, scope)
        for number, head in enumerate(heads):
            right[number] += NAMES[int(head(scope["hidden"]).argmax())] == sample.adapter
    assert right == [12, 12]


LOAD = """
head, adapters = load_router_head(router_path, hidden_size, device)  # adapters = ["calendar", "claim-window", "provider-select"]
"""


def test_08_load_the_head_where_it_routes(world: World) -> None:
    """The document writes ``...`` for the last two arguments."""
    assert executed(LOAD, world.scope())["adapters"] == NAMES


PREDICT = """
logits = head(hidden)                                 # logits shape: [batch, 3]
pred_idx = int(logits.argmax(dim=-1).item())        # pred_idx = 0, 1, or 2

# 3. Map the index to adapter name using the saved list
adapter_name = adapters[pred_idx]                    # e.g., adapters[0] = "calendar"
"""


def test_09_predict_and_map(world: World) -> None:
    scope = executed(LOAD, world.scope())
    for sample in world.samples[::4]:
        scope |= world.scope(sample)
        for snippet in (ENCODE, reads_of(world.router).line, PREDICT):
            executed(snippet, scope)
        assert scope["logits"].shape == (1, 3)
        assert scope["adapter_name"] == sample.adapter


LOAD_LORAS = """
lora_paths = {
    "calendar": "/checkpoints/calendar-tasks",
    "claim-window": "/checkpoints/claim-window",
    "provider-select": "/checkpoints/provider-select",
}
lora_model = load_base_with_loras(base_model_id, lora_paths)
"""


def test_10_load_base_with_loras(world: World) -> None:
    snippet = LOAD_LORAS
    for name, folder in zip(
        ("calendar-tasks", *NAMES[1:]), world.project.adapters.values(), strict=True
    ):
        snippet = snippet.replace(f"/checkpoints/{name}", folder)
    scope = executed(snippet, world.scope())
    assert list(scope["lora_model"].adapters) == NAMES


SET_ADAPTER = """
lora_model.set_adapter(adapter_name)  # e.g., set_adapter("calendar")
"""


def test_11_set_adapter(world: World) -> None:
    for name in NAMES:
        executed(SET_ADAPTER, world.scope() | {"adapter_name": name})
        assert world.lora_model.model.active_adapter == name
        assert not any(p.requires_grad for p in world.lora_model.model.parameters())
    with pytest.raises(LabelError, match=r"'date'.*calendar, claim-window, provider-select"):
        executed(SET_ADAPTER, world.scope() | {"adapter_name": "date"})


GENERATE = """
output_ids = lora_model.generate(**inputs)
"""


def test_12_generate_with_the_selected_lora(world: World) -> None:
    model = world.lora_model
    for sample in world.samples[::4]:
        model.set_adapter(sample.adapter)
        scope = executed(GENERATE, world.scope(sample))
        said = model.decode(scope["output_ids"][0, scope["input_ids"].shape[1] :]).strip()
        answer = pointsman.route_and_generate(model, world.router, prompt(sample))
        assert (said, sample.adapter) == (answer.text, answer.adapter)
    with model.disable_adapter():
        scope = executed(GENERATE, world.scope(sample) | {"adapter_name": None})
    assert model.decode(scope["output_ids"][0, scope["input_ids"].shape[1] :]).strip() != said


MAPPING = """
label: 0          →       pred_idx: 0     →      adapters[0] = "calendar"          → /checkpoints/calendar-tasks
label: 1          →       pred_idx: 1     →      adapters[1] = "claim-window"      → /checkpoints/claim-window
label: 2          →       pred_idx: 2     →      adapters[2] = "provider-select"   → /checkpoints/provider-select
"""


def test_13_label_to_path(tmp_path: Path) -> None:
    rows = [[cell.strip() for cell in line.split("→")] for line in MAPPING.strip().split("\n")]
    lines = [f'{row[2].split(chr(34))[1]} = "{row[3]}"' for row in rows]
    (tmp_path / FILE_NAME).write_text("\n".join(['base = "x/y"', "[adapters]", *lines]))
    project = load_project(tmp_path / FILE_NAME)
    for label, (name, path) in enumerate(project.adapters.items()):
        assert rows[label][:2] == [f"label: {label}", f"pred_idx: {label}"]
        assert (rows[label][2], rows[label][3]) == (f'adapters[{label}] = "{name}"', path)
        assert project.labels.label(name) == label


METADATA = """
metadata = {
    "num_classes": 3,
    "class_names": ["calendar", "claim-window", "provider-select"]
}
"""


def test_14_option_1_names_from_the_metadata(tiny_features: Features, tiny_router: Path) -> None:
    metadata = executed(METADATA)["metadata"]
    saved = json.loads((tiny_features.path / "metadata.json").read_text())
    assert {name: saved[name] for name in metadata} == metadata
    assert list(Router.load(tiny_router).labels) == metadata["class_names"]


MODAL_RUN = """
modal run modal/router_train.py::run \\
    --preprocessed-dir /data/preprocessed/routing_xxx \\
    --adapter-names calendar claim-window provider-select
"""


def test_15_option_2_names_as_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it goes without an account: Modal takes the options and asks who it is for."""
    pytest.importorskip("modal", reason="the modal extra is not installed")
    words = shlex.split(MODAL_RUN.replace("\\\n", ""))
    monkeypatch.setenv("MODAL_CONFIG_PATH", os.devnull)
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert "Token missing" in done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(REPOSITORY / "modal"))
    app = import_module("router_train")
    given: list[Any] = []
    monkeypatch.setattr(app, "train", SimpleNamespace(remote=lambda *each: given.extend(each)))
    app.run.info.raw_f(*words[3:])
    assert given[0] == "/data/preprocessed/routing_xxx"
    assert given[2].split(",") == NAMES


STANDARD_ORDER = """
STANDARD_ADAPTER_ORDER = ["calendar", "claim-window", "provider-select"]
"""


@pytest.mark.usefixtures("project_folder")
def test_16_option_3_standard_ordering() -> None:
    expected = executed(STANDARD_ORDER)["STANDARD_ADAPTER_ORDER"]
    assert expected == import_module("pointsman.project").STANDARD_ADAPTER_ORDER


EXAMPLE = """
# 1. Router processes image+text
hidden_states = encoder(image, text)
logits = router_head(hidden_states)  # logits = [5.2, -1.3, 0.8]  (calendar has highest score)

# 2. Get prediction
pred_idx = argmax(logits)

# 3. Map to adapter name
adapter_name = adapters[pred_idx]

# 4. Load LoRA and generate
lora_model.set_adapter("calendar")  # Activates calendar-specific weights
response = lora_model.generate(image, text)  # Uses calendar LoRA to generate action
"""


def test_17_example_inference_flow(world: World) -> None:
    """The document writes the results, ``= 0`` and ``= "calendar"``, behind two of its lines."""
    sample = world.samples[0]
    head, adapters = load_router_head(world.router_path, world.lora_model.hidden_size, "cpu")
    given = {"router_head": head, "adapters": adapters, "argmax": torch.argmax}
    scope = executed(EXAMPLE, world.scope(sample) | given)
    assert scope["pred_idx"] == 0
    assert scope["adapter_name"] == sample.adapter == "calendar"
    answer = pointsman.route_and_generate(
        world.lora_model, str(world.project.router), [prompt(sample)]
    )
    assert [scope["response"]] == [each.text for each in answer]


def prompt(sample: RoutingSample) -> Prompt:
    return make_prompt(sample.images[0], sample.instruction)
