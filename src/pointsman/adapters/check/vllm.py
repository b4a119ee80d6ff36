"""What vLLM rejects in an adapter, or silently ignores.

Source: vLLM reads ``r``, ``lora_alpha``, ``target_modules``, ``bias``, ``modules_to_save``,
``use_rslora`` and ``use_dora`` of an adapter's configuration, and nothing else of it (its
``lora/peft_helper.py``); its ``LoRAConfig`` is documented at https://docs.vllm.ai.
"""

from typing import Any

from pointsman.adapters.files import AdapterFile
from pointsman.findings import Findings

MAX_RANK = 16
"""vLLM's own default of --max-lora-rank"""
CODES = tuple(
    f"vllm-{fault}"
    for fault in (
        "kind",
        "rank",
        "pattern",
        "dora",
        "modules",
        "bias",
        "activated",
        "tower",
        "targets",
    )
)


def check_vllm(run: Findings, adapter: AdapterFile, max_lora_rank: int) -> None:
    """Reports what vLLM, started with ``max_lora_rank``, would reject or ignore."""
    config = adapter.config
    if config["peft_type"] != "LORA":
        run.error("vllm-kind", f"vLLM has no {config['peft_type']}", "train a LoRA")
        return
    _check_ranks(run, config, max_lora_rank)
    for option, code, meaning in (
        ("use_dora", "vllm-dora", "DoRA"),
        ("modules_to_save", "vllm-modules", "whole modules"),
        ("lora_bias", "vllm-bias", "biases of a LoRA"),
        ("alora_invocation_tokens", "vllm-activated", "activated LoRAs: it would always be on"),
    ):
        if config.get(option):
            message = f"{option} is {config[option]!r}: vLLM has no {meaning}"
            run.error(code, message, f"train without {option}")
    if config.get("bias", "none") != "none":
        run.error("vllm-bias", f"bias is {config['bias']!r}: vLLM has no biases", "train without")
    modules = {module.removeprefix("model.") for module in adapter.modules}
    if tower := [module for module in modules if module.startswith("visual.")]:
        run.error(
            "vllm-tower",
            f"{len(tower)} of its modules are in the vision tower, such as {min(tower)}, which "
            "vLLM ignores by default",
            "serve with --enable-tower-connector-lora, or train the decoder only",
        )
    if ends := [m for m in modules if m.rpartition(".")[2] in ("lm_head", "embed_tokens")]:
        message = f"changes {min(ends)}, which vLLM may refuse for this model"
        run.warning("vllm-targets", message, "train the decoder's projections only")


def _check_ranks(run: Findings, config: dict[str, Any], max_lora_rank: int) -> None:
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    highest = max((rank for rank in ranks if isinstance(rank, int)), default=0)
    if highest > max_lora_rank:
        run.error(
            "vllm-rank",
            f"rank {highest} is above --max-lora-rank {max_lora_rank}",
            f"serve with --max-lora-rank {highest} or more",
        )
    for pattern in ("rank_pattern", "alpha_pattern"):
        if config.get(pattern):
            run.error(
                "vllm-pattern",
                f"vLLM does not read {pattern}, so that it scales {next(iter(config[pattern]))} "
                "wrong",
                "train with one rank and one alpha",
            )
