"""Makes what ``bench_vllm_gpu.py`` serves: a base, adapters, a router, requests and their routes.

The base has the shape of Qwen3-VL-8B and random weights, so that nothing is fetched. The router is
trained on it as users do it: dataset, features, head, seal. There are two projects: the adapters of
``in-pass`` begin at the router's layer, those of ``two-pass`` at the first.

It is a process of its own, since it needs a newer version of transformers than vLLM. ``--fp8`` adds
to a WORK that is there a router for the same base with FP8 weights, and its projects.

    python benchmarks/prepare_vllm_gpu.py WORK [--shape toy]
    python benchmarks/prepare_vllm_gpu.py WORK --fp8
"""

import argparse
import gc
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from common import machine
from peft import LoraConfig
from PIL import Image
from random_qwen import RANK, SHAPES, Shape, make_base
from safetensors.torch import save_file

from pointsman.adapters.layout import GROUPS
from pointsman.adapters.seal import seal_adapters
from pointsman.conversation import make_prompt
from pointsman.data.dataset import Dataset, read_dataset
from pointsman.data.generate import generate_dataset
from pointsman.models.base import Base, load_base
from pointsman.models.features import FeatureRecipe
from pointsman.pocket import pocket_folder
from pointsman.project import load_project
from pointsman.routing.feature_store import preprocess
from pointsman.routing.router import Router
from pointsman.routing.train import TrainSettings, train_router

TASKS = {
    "calendar": "Click the 14th of March in the calendar",
    "claims": "Open the claim of last week and start its review",
    "providers": "Select the provider that is next to the clinic",
    "invoices": "Type the amount of the invoice into the second field",
    "search": "Search for the name of the patient",
    "settings": "Turn the notifications off",
    "reports": "Download the report as a table",
    "messages": "Answer the first message with a thank you",
}
"""The instruction of each adapter's samples"""
PLANS = ("in-pass", "two-pass")
FP8 = "-fp8"
"""After a project's name"""
SAMPLES, REQUESTS = 16, 8
"""Of each adapter: to train the router, and to ask"""
TOY = replace(
    SHAPES["toy"],
    hidden=128,
    inner=256,
    layers=8,
    key_heads=2,
    head_size=64,
    sections=(12, 10, 10),
    vocabulary=1024,
)
"""As small as vLLM's kernels for CPUs allow"""


def make_checkpoint(shape: Shape, device: torch.device, folder: Path) -> None:
    """Writes a base of random weights, with the pocket's tokenizer."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = make_base(shape, device, dtype).model
    with pocket_folder() as pocket:
        known = json.loads((pocket / "base/config.json").read_text())
        for key in ("image_token_id", "video_token_id", "vision_start_token_id"):
            setattr(model.config, key, known[key])
        model.config.vision_end_token_id = known["vision_end_token_id"]
        model.save_pretrained(folder, max_shard_size="2GB")
        for name in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(pocket / "base" / name, folder)
        processor = json.loads((pocket / "base/preprocessor_config.json").read_text())
    processor["size"] = {"shortest_edge": 4096, "longest_edge": 16777216}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def make_adapter(shape: Shape, first: int, device: torch.device, folder: Path) -> None:
    """Writes a LoRA of random weights on all projections of the layers from ``first`` on."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    weights = {}
    for layer in range(first, shape.layers):
        for block, names in GROUPS:
            for name in names:
                inputs, outputs = shape.projections[name]
                place = f"base_model.model.model.language_model.layers.{layer}.{block}.{name}"
                a = torch.randn(RANK, inputs, device=device) * inputs**-0.5
                b = torch.randn(outputs, RANK, device=device) * 0.05
                weights[f"{place}.lora_A.weight"] = a.to(dtype).cpu()
                weights[f"{place}.lora_B.weight"] = b.to(dtype).cpu()
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    LoraConfig(
        task_type="CAUSAL_LM",
        r=RANK,
        lora_alpha=RANK,
        target_modules=list(shape.projections),
        layers_to_transform=list(range(first, shape.layers)),
        layers_pattern="layers",
        inference_mode=True,
    ).save_pretrained(folder)


def screens(shape: Shape, seed: int) -> Iterator[Image.Image]:
    """Endless pictures for one adapter: the same background, with a window somewhere on it."""
    rng = np.random.default_rng(seed)
    height, width = (16 * side for side in shape.grid)
    small = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    background = Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)
    while True:
        screen = background.copy()
        window = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        place = (int(rng.integers(width * 3 // 4)), int(rng.integers(height * 3 // 4)))
        screen.paste(Image.fromarray(window), place)
        yield screen


def write_samples(shape: Shape, work: Path) -> tuple[dict[str, Path], Path]:
    """Writes each adapter's training set, and the requests to ask, adapters in turn."""
    sources, asked = {}, []
    images = work / "images"
    images.mkdir()
    for label, (name, text) in enumerate(TASKS.items()):
        rows = []
        for number, screen in zip(range(SAMPLES + REQUESTS), screens(shape, label), strict=False):
            path = images / f"{name}-{number}.png"
            screen.save(path, compress_level=1)
            row = {"image": str(path), "text": f"{text}, please ({number})", "adapter": name}
            (rows if number < SAMPLES else asked).append(row)
        sources[name] = work / f"{name}.jsonl"
        sources[name].write_text("".join(json.dumps(as_sample(row)) + "\n" for row in rows))
    requests = work / "requests.jsonl"
    in_turn = [row for first in range(REQUESTS) for row in asked[first::REQUESTS]]
    requests.write_text("".join(json.dumps(row) + "\n" for row in in_turn))
    return sources, requests


def as_sample(row: dict[str, str]) -> dict[str, object]:
    turns = [("human", f"<image>\n{row['text']}"), ("gpt", "done")]
    return {
        "conversations": [{"from": who, "value": text} for who, text in turns],
        "image": row["image"],
    }


def train(base: Base, dataset: Dataset, layer: int, work: Path, mark: str = "") -> Router:
    """The router of both projects."""
    recipe = FeatureRecipe(layers=(layer,))
    features = preprocess(dataset, base, work / f"features{mark}", recipe)
    settings = TrainSettings(mlp_sizes=(0,), steps=150)
    return train_router(features, work / f"router{mark}", settings=settings)


def write_projects(work: Path, mark: str = "") -> None:
    """Writes the projects, and seals their adapters into a router of their own."""
    for plan in PLANS:
        name = f"{plan}{mark}"
        shutil.copytree(work / f"router{mark}", work / "routers" / name)
        lines = ['base = "base"', f'router = "routers/{name}"', "[adapters]"]
        lines += [f'{task} = "adapters/{plan}/{task}"' for task in TASKS]
        config = work / f"{name}.toml"
        config.write_text("\n".join(lines) + "\n")
        seal_adapters(work / "routers" / name, load_project(config))


def add_fp8(work: Path) -> None:
    made = json.loads((work / "made.json").read_text())
    base, dataset = load_base(str(work / "base"), dtype="fp8"), read_dataset(work / "dataset")
    router = train(base, dataset, made["route_layer"], work, FP8)
    write_projects(work, FP8)
    print(f"fp8: router accuracy {router.best_acc}")


def write_routes(router: Router, base: Base, requests: Path) -> None:
    """Adds to the requests their prompts, and the decisions of the library alone."""
    rows = [json.loads(line) for line in requests.read_text().splitlines()]
    for row in rows:
        prompt = make_prompt(row["image"], row["text"])
        [route] = router.route(base, [prompt])
        row["prompt"] = base.render(prompt.turns)
        row["route"] = asdict(route)
    requests.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="a new folder; some 20 GB for 8B")
    parser.add_argument("--shape", choices=("8B", "toy"), default="8B")
    parser.add_argument("--fp8", action="store_true", help="add to WORK what FP8 weights need")
    options = parser.parse_args()
    if options.fp8:
        add_fp8(options.work)
        return
    shape, work = TOY if options.shape == "toy" else SHAPES[options.shape], options.work
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work.mkdir()
    began, seconds = time.perf_counter(), {}

    def took(step: str) -> None:
        nonlocal began
        seconds[step] = round(time.perf_counter() - began, 1)
        began = time.perf_counter()
        print(step, seconds[step], flush=True)

    make_checkpoint(shape, device, work / "base")
    gc.collect()
    torch.cuda.empty_cache()
    took("base")
    for plan, first in zip(PLANS, (shape.route_layer, 0), strict=True):
        for name in TASKS:
            make_adapter(shape, first, device, work / "adapters" / plan / name)
    took("adapters")
    sources, requests = write_samples(shape, work)
    took("samples")
    base = load_base(str(work / "base"))
    took("load")
    dataset = generate_dataset(
        {name: [path] for name, path in sources.items()},
        work / "dataset",
        val=0.25,
        test=0.0,
        group_similar=False,  # all pictures of an adapter are similar
    )
    router = train(base, dataset, shape.route_layer, work)
    took("train")
    write_projects(work)
    took("seal")
    write_routes(router.to(base.device), base, requests)
    took("routes")
    made = {
        "shape": options.shape,
        "layers": shape.layers,
        "route_layer": shape.route_layer,
        "image_tokens": shape.image_tokens,
        "rank": RANK,
        "adapters": list(TASKS),
        "dtype": str(base.dtype).removeprefix("torch."),
        "router_accuracy": router.best_acc,
        "machine": machine(),
        "seconds": seconds,
    }
    (work / "made.json").write_text(json.dumps(made))  # last: now the folder is complete
    print(json.dumps(made))


if __name__ == "__main__":
    main()
