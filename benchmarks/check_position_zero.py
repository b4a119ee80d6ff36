"""An exported head in the original code: position 0, and the last real token of the sealed layer.

The pocket's router is written as a ``.pt`` file and its head read back, as the original code does.
It then labels the shipped in-scope screenshots from transformers' own ``hidden_states``.
"""

import tempfile
from pathlib import Path

import torch
from common import report

from pointsman.models.base import load_base
from pointsman.pocket import pocket_folder
from pointsman.routing.legacy_pt import load_router_head, write_pt
from pointsman.routing.router import Router
from pointsman.sample import load_prompt, read_samples


def main() -> None:
    with pocket_folder() as folder, tempfile.TemporaryDirectory() as temporary:
        router = Router.load(folder / "router")
        checkpoint = Path(temporary) / "head.pt"
        write_pt(checkpoint, router)
        head, _ = load_router_head(checkpoint, router.hidden_size)
        base = load_base(str(folder / "base"), device="cpu")
        shown = read_samples(folder.parent / "screens/samples.jsonl", router.labels)
        samples = [s for s in shown if s.label is not None and s.label >= 0]
        labels: dict[str, list[int]] = {"position 0, last layer": [], "last real token": []}
        with torch.inference_mode():
            for sample in samples:
                inputs = base.stock_inputs(base.encode([load_prompt(sample)]))
                states = base.model(**inputs, output_hidden_states=True).hidden_states
                last = inputs["attention_mask"].shape[1] - 1
                first = head(states[-1][:, 0, :].float())
                right = head(states[router.layer][:, last, :].float())
                labels["position 0, last layer"].append(int(first.argmax()))
                labels["last real token"].append(int(right.argmax()))
    truth = [sample.label for sample in samples]
    report(
        "position_zero",
        {
            "samples": len(samples),
            "right": {
                name: sum(a == b for a, b in zip(found, truth, strict=True))
                for name, found in labels.items()
            },
            "different_labels": {name: len(set(found)) for name, found in labels.items()},
        },
    )


if __name__ == "__main__":
    main()
