"""What vLLM refuses in an adapter, and what it accepts but does not compute as PEFT does.

Source: vLLM's ``lora/peft_helper.py``, ``lora/lora_model.py``, ``lora/model_manager.py`` and
``config/lora.py``, for Qwen3-VL. ``make test-vllm`` compares these rules with a running vLLM.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pointsman.adapters.files import DECODER, PREFIX, AdapterFile
from pointsman.adapters.layout import PROJECTIONS, Layout, key_of, pattern_value
from pointsman.adapters.weights import obstacle
from pointsman.errors import ConfigError
from pointsman.findings import RETRAIN, SAVE_AGAIN, Findings

VERSION = "0.32.0"
"""The vLLM that these rules describe"""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM accepts for --max-lora-rank"""
REFUSED = tuple(f"vllm-{fault}" for fault in ("kind", "option", "rank", "keys", "half", "shape"))
"""Codes of adapters that vLLM does not load"""
SILENT = tuple(f"vllm-{fault}" for fault in ("unread", "names", "tower", "wrong"))
"""Codes of adapters that vLLM loads, and whose answers are not PEFT's"""

CODES = REFUSED + SILENT

_VLLM = f"vLLM {VERSION}"
_OPTIONS = (
    "use_dora",
    "lora_bias",
    "alora_invocation_tokens",
    "layer_replication",
    "use_bdlora",
    "use_qalora",
)
_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
_HEADS = ("classifier", "score")
_TOWER = "model.visual."
_EMBEDDING = DECODER + "embed_tokens"
_MODULES = (*PROJECTIONS, "qkv", "proj", "linear_fc1", "linear_fc2", "lm_head", "embed_tokens")
_MATRIX = re.compile(r"(.+)\.(?:lora_([AB])\.weight|lora_embedding_([AB]))")
_COPIED = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
# vLLM's own names of the model's parts, which it takes as well as the checkpoint's.
_OWN = (
    ("visual.", _TOWER),
    ("language_model.model.", DECODER),
    ("language_model.lm_head", "lm_head"),
)
_FUSED = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
"""Projections that vLLM computes together: one of them may lack a matrix"""


@dataclass(frozen=True)
class VllmOptions:
    """How vLLM is started: its options of the same names.

    Raises:
        ConfigError: vLLM does not accept this ``max_lora_rank``.
    """

    max_lora_rank: int = 16
    enable_tower_connector_lora: bool = False

    def __post_init__(self) -> None:
        if self.max_lora_rank not in RANKS:
            raise ConfigError(
                f"--max-lora-rank {self.max_lora_rank} is not accepted by vLLM {VERSION}; give one "
                f"of {', '.join(map(str, RANKS))}"
            )


def check_vllm(
    run: Findings, adapter: AdapterFile, layout: Layout | None, options: VllmOptions
) -> None:
    """Reports what vLLM would refuse, and what it would load and not compute.

    Args:
        layout: the base's modules. None: shapes and the base's own modules are not checked.
    """
    config = adapter.config
    if config["peft_type"] != "LORA":
        message = f"peft_type is {config['peft_type']}, which {_VLLM} refuses"
        run.error("vllm-kind", message, "train a LoRA")
        return
    for fault in _options(config):
        run.error("vllm-option", f"{fault}, which {_VLLM} refuses", "train without it")
    for fault in _values(config):
        run.error("vllm-option", f"{fault}, with which {_VLLM} refuses it", SAVE_AGAIN)
    rest = {k: v for k, v in config.items() if k not in (*_OPTIONS, "modules_to_save", "bias")}
    if (unread := obstacle(rest)) is not None:
        message = f"{unread}: {_VLLM} does not read it, and computes without it"
        run.error("vllm-unread", message, "train without it")
    _check_rank(run, config, options.max_lora_rank)
    if modules := _matrices(run, adapter):
        _check_modules(run, modules, config, layout, options)


def _options(config: Mapping[str, Any]) -> Iterator[str]:
    """What is switched on and refused."""
    yield from (f"{name} is {config[name]!r}" for name in _OPTIONS if config.get(name))
    if config.get("bias", "none") != "none":
        yield f"bias is {config['bias']!r}"
    if saved := [name for name in config.get("modules_to_save") or () if name not in _HEADS]:
        yield f"modules_to_save is {saved!r}"
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in _INITS:
        yield f"init_lora_weights is {init!r}"


def _values(config: Mapping[str, Any]) -> Iterator[str]:
    """What is missing or wrong."""
    yield from (f"it has no {k}" for k in ("r", "lora_alpha", "target_modules") if k not in config)
    yield from (f"{place} is {value!r}" for place, value in _no_numbers(config).items())
    for option in ("rank_pattern", "alpha_pattern"):
        yield from _uncompiled(option, config.get(option) or {})


def _no_numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    ranks = {k: v for k, v in _ranks(config).items() if not isinstance(v, int) or v < 1}
    alphas = {k: v for k, v in _alphas(config).items() if not isinstance(v, int | float)}
    return ranks | alphas


def _uncompiled(option: str, patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"{option} has {pattern!r}, which is no regular expression ({error})"


def _ranks(config: Mapping[str, Any]) -> dict[str, Any]:
    """All ranks by where the configuration has them."""
    patterns = (config.get("rank_pattern") or {}).items()
    return {"r": config.get("r", 1)} | {f"rank_pattern of {k}": v for k, v in patterns}


def _alphas(config: Mapping[str, Any]) -> dict[str, Any]:
    patterns = (config.get("alpha_pattern") or {}).items()
    alphas = {f"alpha_pattern of {k}": v for k, v in patterns if v is not None}
    return {"lora_alpha": config.get("lora_alpha", 1)} | alphas


def _check_rank(run: Findings, config: Mapping[str, Any], max_lora_rank: int) -> None:
    highest = max((rank for rank in _ranks(config).values() if isinstance(rank, int)), default=0)
    if highest > max_lora_rank:
        run.error(
            "vllm-rank",
            f"rank {highest} is above --max-lora-rank {max_lora_rank}, and {_VLLM} refuses it",
            f"serve with --max-lora-rank {min(rank for rank in RANKS if rank >= highest)} or more"
            if highest <= RANKS[-1]
            else f"train with a rank of at most {RANKS[-1]}",
        )


def _matrices(run: Findings, adapter: AdapterFile) -> dict[str, dict[str, Tensor]]:
    """A and B of each module by the name under which vLLM looks for patterns; none if refused."""
    modules: dict[str, dict[str, Tensor]] = defaultdict(dict)
    refused = []
    for key, tensor in adapter.tensors.items():
        if key.endswith(_COPIED):
            continue
        match = _MATRIX.fullmatch(key.replace(PREFIX, "") if key.startswith(PREFIX) else key)
        if match is None or match[1].rpartition(".")[2] not in _MODULES:
            refused.append(key)
        else:
            modules[match[1]][match[2] or match[3]] = tensor
    if refused:
        run.error(
            "vllm-keys",
            f"{len(refused)} of its keys are no LoRA matrices of a module that {_VLLM} knows, such "
            f"as {refused[0]}: it refuses the adapter",
            "write a copy with current keys with --fix OUT, or train the decoder's projections",
        )
        return {}
    return modules


_MEANINGS = {
    "vllm-names": (
        "have names that {vllm} does not know, and it ignores them",
        "write a copy with current keys with --fix OUT",
    ),
    "vllm-tower": (
        "are in the vision tower, where {vllm} ignores them by default",
        "serve with --enable-tower-connector-lora, or train the decoder only",
    ),
    "vllm-half": ("have only A or only B, and {vllm} refuses the adapter", SAVE_AGAIN),
    "vllm-shape": ("have shapes that do not fit, and {vllm} refuses the adapter", RETRAIN),
    "vllm-wrong": (
        "are incomplete or have shapes that do not fit, and {vllm} computes with them all the same",
        RETRAIN,
    ),
}


def _check_modules(
    run: Findings,
    modules: Mapping[str, Mapping[str, Tensor]],
    config: Mapping[str, Any],
    layout: Layout | None,
    options: VllmOptions,
) -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for name, sides in modules.items():
        try:
            rank = pattern_value(config.get("rank_pattern"), name, config.get("r"))
            alpha = pattern_value(config.get("alpha_pattern"), name, config.get("lora_alpha"))
        except re.error:
            return  # reported with the values
        path = _path(name)
        code = _unused(path, layout, options)
        if len(sides) < 2:
            code = _half(path, "B" in sides, _is_one(alpha, rank, config), code is None)
        elif code is None and layout is not None and isinstance(rank, int):
            code = _misshapen(path, sides, rank, layout, options.max_lora_rank)
        if code is not None:
            found[code].append(name)
    for code, (message, hint) in _MEANINGS.items():
        if places := found[code]:
            message = f"{len(places)} of its modules, such as {places[0]}, {message}"
            run.error(code, message.format(vllm=_VLLM), hint)


def _path(name: str) -> str:
    """The path of a module in a checkpoint of today."""
    for own, today in _OWN:
        if name.startswith(own):
            return today + name.removeprefix(own)
    return name


def _unused(path: str, layout: Layout | None, options: VllmOptions) -> str | None:
    """The code of a module whose matrices vLLM does not use."""
    if layout is None:
        is_known = path.startswith((_TOWER, DECODER)) or path == "lm_head"
    else:
        is_known = path in layout.shapes or path == _EMBEDDING
    if not is_known:
        return "vllm-names"
    if path.startswith(_TOWER) and not options.enable_tower_connector_lora:
        return "vllm-tower"
    return None


def _is_one(alpha: Any, rank: Any, config: Mapping[str, Any]) -> bool:
    return bool(alpha == (rank**0.5 if config.get("use_rslora") else rank))


def _half(path: str, has_b: bool, is_unscaled: bool, is_used: bool) -> str:
    """vLLM scales B first, and fuses what it can; a matrix that is None fails in both places."""
    is_fused = key_of(path) is not None and path.endswith(_FUSED)
    if (not has_b and not is_unscaled) or (is_used and not is_fused):
        return "vllm-half"
    return "vllm-wrong"


def _misshapen(
    path: str, sides: Mapping[str, Tensor], rank: int, layout: Layout, max_lora_rank: int
) -> str | None:
    """vLLM copies matrices into a corner of its buffers: smaller ones fit, larger ones do not."""
    if path == _EMBEDDING:
        inputs, outputs = layout.weights[f"{path}.weight"].shape
    else:
        outputs, inputs = layout.shapes[path]
    a, b = sides["A"].shape, sides["B"].shape
    if (a, b) == ((rank, inputs), (outputs, rank)):
        return None
    is_refused = (
        len(a) != 2
        or len(b) != 2
        or max(a[0], b[1]) > max_lora_rank
        or a[1] > inputs
        or b[0] > outputs
        or (path == _EMBEDDING and a[1] != inputs)
    )
    return "vllm-shape" if is_refused else "vllm-wrong"
