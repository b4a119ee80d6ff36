"""Launch: checks a project before vLLM starts, and sets vLLM's options for it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pointsman.adapters.check.check import check_adapter
from pointsman.adapters.check.vllm import RANKS
from pointsman.adapters.files import AdapterFile
from pointsman.adapters.layout import Layout
from pointsman.adapters.load import fit_adapter, open_sealed
from pointsman.adapters.weights import Lora
from pointsman.engine.plan import Plan, choose_plan
from pointsman.errors import ArtefactError, ConfigError
from pointsman.labels import ROUTED
from pointsman.models.base import load_skeleton
from pointsman.models.qwen3_vl import fingerprint_of
from pointsman.vllm.compatibility import spare_slots
from pointsman.vllm.settings import Settings

PLANS = ("in-pass", "two-pass")
PLAN = "pointsman_plan"
"""Key of the plan in vLLM's ``additional_config``"""
_CHECKED = "_POINTSMAN_CHECKED"
"""Set for the processes that vLLM starts: the weights need not be read again by each"""


@dataclass(frozen=True)
class Launch:
    """What vLLM is started with."""

    base: str
    folders: Mapping[str, str]
    """Folder of each adapter, in label order"""
    rank: int
    """The largest of the adapters"""
    plan: Plan

    @property
    def slots(self) -> int:
        """The least ``--max-loras``: ``auto`` and the adapters stay resident; one is for others."""
        return len(self.folders) + 2 + spare_slots()

    @property
    def max_lora_rank(self) -> int:
        """The smallest that vLLM accepts and that holds every adapter."""
        return next((rank for rank in RANKS if rank >= self.rank), RANKS[-1])

    def modules(self, settings: Settings) -> dict[str, str]:
        """``--lora-modules``: name to path. The path of ``auto`` is only shown: it has no files."""
        return {ROUTED: str(settings.project.router), **self.folders}


@cache
def prepare(settings: Settings) -> Launch:
    """Checks everything that vLLM is to serve, without loading the base.

    Raises:
        PointsmanError: a part is missing, broken, not as sealed, or cannot be served by vLLM.
    """
    project, router = settings.project, settings.router
    if project.base is None:
        raise ConfigError(f'{settings.where}: needs base = "a Hub id or folder" to answer with')
    files = {name: open_sealed(name, path, router) for name, path in project.adapters.items()}
    loras = _fitted(files, project.base, project.revision)
    rank = max((lora.rank for lora in loras if isinstance(lora, Lora)), default=1)
    plan = choose_plan(loras, router.layer if settings.reads_with_base else None)
    if plan.name not in PLANS:
        raise ConfigError(
            f"{settings.where}: auto cannot run inside vLLM: {plan.why}; serve these adapters with "
            "pointsman's own engine, or by name without POINTSMAN_CONFIG"
        )
    folders = {name: str(file.folder.absolute()) for name, file in files.items()}
    return Launch(project.base, folders, rank, plan)


def check_base(settings: Settings, base: str, revision: str | None) -> None:
    """Raises ``MismatchError`` unless the router was trained on the base that vLLM serves.

    It reads all weights, once for all of vLLM's processes.
    """
    place = f"{settings.where}\n{base}\n{revision}"
    if settings.reads_with_base and os.environ.get(_CHECKED) != place:
        origin = settings.router.origin
        origin.fingerprint.check_same(
            fingerprint_of(base, revision),
            f"the router's base ({origin.base_model_id})",
            f"the base that vLLM is to serve ({base})",
            "use that base, or preprocess and train a router on this one",
        )
        os.environ[_CHECKED] = place


def _fitted(files: Mapping[str, AdapterFile], base: str, revision: str | None) -> list[Lora | str]:
    """Each adapter's matrices, or the reason why it is served through PEFT alone."""
    skeleton = load_skeleton(base, revision=revision)
    layout = Layout.of(skeleton.model)
    loras = []
    for name, file in files.items():
        found = check_adapter(file, skeleton, target="vllm", max_lora_rank=RANKS[-1]).errors
        if found:
            fault = str(found[0]).removeprefix("error: ")
            raise ArtefactError(f"adapter {name}: vLLM cannot serve it: {fault}")
        loras.append(fit_adapter(name, file, skeleton, layout).lora)
    return loras


@dataclass(frozen=True)
class _Refused:
    """An option of vLLM with which requests would be answered wrongly."""

    flag: str
    is_set: Callable[[Any], Any]
    """Of vLLM's ``EngineArgs``"""
    why: str
    fix: str


_REFUSED = (
    _Refused(
        "--speculative-config",
        lambda args: args.speculative_config,
        "a draft model does not know the chosen adapter",
        "leave it out",
    ),
    _Refused(
        "--pipeline-parallel-size",
        lambda args: args.pipeline_parallel_size > 1,
        "the router's layer and the layers above may be on different machines",
        "give --tensor-parallel-size instead",
    ),
    _Refused(
        "--enable-chunked-prefill",
        lambda args: args.enable_chunked_prefill,
        "the first chunk of a prompt would be read before the adapter is known",
        "give --no-enable-chunked-prefill",
    ),
    _Refused(
        "--long-prefill-token-threshold",
        lambda args: getattr(args, "long_prefill_token_threshold", 0),
        "it cuts prompts into chunks, the first of which would be read before the adapter is known",
        "leave it out",
    ),
    _Refused(
        "--kv-transfer-config",
        lambda args: args.kv_transfer_config,
        "KV caches that are moved elsewhere are not kept apart by the chosen adapter",
        "leave it out",
    ),
    _Refused(
        "--enable-dbo",
        lambda args: getattr(args, "enable_dbo", False),
        "a step would be run in two parts, and only whole prompts can be routed",
        "leave it out",
    ),
    _Refused(
        "--enable-tower-connector-lora",
        lambda args: getattr(args, "enable_tower_connector_lora", False),
        "the vision tower runs before the adapter is known",
        "leave it out",
    ),
    _Refused(
        "--specialize-active-lora",
        lambda args: args.specialize_active_lora,
        "CUDA graphs are picked by the number of adapters in a step before the router decides",
        "leave it out",
    ),
    _Refused(
        "--runner pooling",
        lambda args: args.runner == "pooling",
        "it does not generate",
        "leave it out",
    ),
    _Refused(
        "VLLM_USE_V2_MODEL_RUNNER=1",
        lambda args: os.environ.get("VLLM_USE_V2_MODEL_RUNNER", "") in ("1", "true", "True"),
        "pointsman routes in the V1 model runner",
        "unset it",
    ),
)


def check_options(args: Any, settings: Settings) -> None:
    """Refuses options of vLLM (its ``EngineArgs``) that would make answers wrong.

    Raises:
        ConfigError: one of them is set.
        MismatchError: the router was trained on another base than is to be served.
    """
    for option in _REFUSED if settings.reads_with_base else ():
        if option.is_set(args):
            raise ConfigError(
                f"{option.flag} does not go with {ROUTED}: {option.why}; {option.fix}"
            )
    check_base(settings, args.model, args.revision or settings.project.revision)


def check_graphs(config: Any, settings: Settings) -> None:
    """Refuses CUDA graphs of whole steps, in vLLM's final ``CompilationConfig``.

    Other options than ``cudagraph_mode`` lead to them too.

    Raises:
        ConfigError: there would be such graphs.
    """
    if settings.reads_with_base and config.cudagraph_mode.name == "FULL":
        raise ConfigError(
            f"cudagraph_mode FULL does not go with {ROUTED}: one graph of a whole step cannot "
            "route; give FULL_AND_PIECEWISE, and no empty splitting_ops"
        )


def set_options(args: Any, launch: Launch, settings: Settings) -> None:
    """Sets vLLM's options (its ``EngineArgs``) as the project needs them; a second call changes
    nothing."""
    args.enable_lora = True
    args.max_loras = max(args.max_loras, launch.slots)
    if args.max_cpu_loras is not None:
        args.max_cpu_loras = max(args.max_cpu_loras, args.max_loras)
    args.max_lora_rank = max(args.max_lora_rank, launch.max_lora_rank)
    if args.revision is None:
        args.revision = settings.project.revision
    if settings.project.max_pixels is not None:
        kwargs = dict(args.mm_processor_kwargs or {})
        args.mm_processor_kwargs = {"max_pixels": settings.project.max_pixels} | kwargs
    if settings.reads_with_base:
        args.enable_chunked_prefill = False
        # The layers are part of the key under which vLLM keeps compiled code: that of a router on
        # another layer does not show its states to this one. The worker reads the plan.
        ours = {"pointsman_layers": list(settings.router.recipe.layers), PLAN: launch.plan.name}
        args.additional_config = {**args.additional_config, **ours}


def flags(launch: Launch, settings: Settings) -> list[str]:
    """The same options on a command line."""
    modules = [f"{name}={path}" for name, path in launch.modules(settings).items()]
    words = ["--enable-lora", "--max-loras", str(launch.slots)]
    words += ["--max-lora-rank", str(launch.max_lora_rank)]
    if settings.project.revision is not None:
        words += ["--revision", settings.project.revision]
    if settings.project.max_pixels is not None:
        words += ["--mm-processor-kwargs", f'{{"max_pixels": {settings.project.max_pixels}}}']
    if settings.reads_with_base:
        words.append("--no-enable-chunked-prefill")
    else:
        del modules[0]  # `auto` is rewritten before vLLM sees it
    return [*words, "--lora-modules", *modules]
