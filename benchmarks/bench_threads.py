"""8 threads x 50 mixed requests on the pocket: how many answers differ from serial calls?

The same requests go, in the same run, to the same model driven naively, each thread calling
PEFT's `set_adapter` and `generate` itself, to show what is being prevented.
"""

import random
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from common import report

from lab.screens import draw_screen
from pointsman.adapters.peft import load_base_with_loras
from pointsman.cli.console import quiet_libraries
from pointsman.conversation import Prompt, make_prompt
from pointsman.engine.engine import Engine
from pointsman.pocket import pocket_folder
from pointsman.project import load_project

THREADS, REQUESTS, DISTINCT, NEW_TOKENS = 8, 50, 24, 12
Ask = Callable[[Prompt, str], str]


def requests() -> list[tuple[Prompt, str]]:
    rng = random.Random(3)
    names = ("calendar", "claim-window", "provider-select")
    made = []
    for index in range(DISTINCT):
        screen = draw_screen(rng, names[index % 3], "plain", (320, 256))
        # Each adapter is asked about each kind of screen, so that a mix-up would show.
        made.append((make_prompt(screen.image, screen.instruction), names[index // 3 % 3]))
    return made


def differences(ask: Ask, mixed: list[tuple[Prompt, str]], serial: list[str]) -> dict[str, int]:
    wrong, failed = [], []

    def caller(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(REQUESTS):
            index = rng.randrange(DISTINCT)
            try:
                if ask(*mixed[index]) != serial[index]:
                    wrong.append(index)
            except Exception:
                failed.append(index)

    threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"requests": THREADS * REQUESTS, "differ": len(wrong), "raised": len(failed)}


def main() -> None:
    quiet_libraries()
    mixed = requests()
    with pocket_folder() as folder:
        project = load_project(folder / "pointsman.toml")
    base = load_base_with_loras(project.base, project.adapters)
    with Engine.pocket() as engine:

        def ours(prompt: Prompt, adapter: str) -> str:
            [answer] = engine.generate_batch(
                [prompt], adapter=[adapter or "base"], max_new_tokens=NEW_TOKENS
            )
            return answer.text

        def naive(prompt: Prompt, adapter: str) -> str:
            base.model.set_adapter(adapter, inference_mode=True)
            encoded = base.encode([prompt])
            inputs = base.stock_inputs(encoded)
            del inputs["position_ids"]
            with torch.inference_mode():
                tokens = base.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
            return base.decode(tokens[0, encoded["input_ids"].shape[1] :]).strip()

        serial = [ours(*request) for request in mixed]
        result = {
            "threads": THREADS,
            "distinct_answers": len(set(serial)),
            "engine": differences(ours, mixed, serial),
            "set_adapter_and_generate": differences(naive, mixed, serial),
        }
    report(Path(__file__).stem.removeprefix("bench_"), result)


if __name__ == "__main__":
    main()
