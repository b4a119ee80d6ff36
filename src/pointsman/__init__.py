"""Pointsman picks the right LoRA for a request.

The public names below are imported when they are first used, so that ``import pointsman`` costs
nothing and ``pointsman --help`` does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES: dict[str, tuple[str, ...]] = {
    "adapters.check.check": ("check_adapter",),
    "adapters.peft": ("load_base_with_loras",),
    "adapters.seal": ("seal_adapters",),
    "adapters.train": ("train_adapter",),
    "conversation": ("Prompt", "Turn", "make_prompt"),
    "data.check": ("check_dataset",),
    "data.generate": ("generate_dataset",),
    "engine.answer": ("Answer",),
    "engine.engine": ("Engine",),
    "engine.logprobs": ("TokenLogprob",),
    "engine.options": ("EngineOptions",),
    "engine.peft_backend": ("route_and_generate",),
    "engine.sampling": ("Sampling",),
    "engine.stream": ("Stream",),
    "errors": (
        "AbstainedError",
        "ArtefactError",
        "ConfigError",
        "EngineClosedError",
        "EngineStateError",
        "ImageError",
        "LabelError",
        "MismatchError",
        "MissingDependency",
        "PointsmanError",
        "QueueFullError",
        "RequestError",
        "SampleError",
    ),
    "evaluation.evaluate": ("evaluate",),
    "labels": ("LabelMap",),
    "models.base": ("Base", "load_base"),
    "models.features": ("FeatureRecipe",),
    "models.text_encoder": ("TextEncoder", "load_encoder"),
    "project": ("ADAPTER_LABELS", "STANDARD_ADAPTER_ORDER", "Project", "load_project"),
    "routing.extend": ("extend_router",),
    "routing.feature_store": ("preprocess",),
    "routing.head": ("build_router_head",),
    "routing.legacy_pt": ("load_router_head",),
    "routing.route": ("Route",),
    "routing.router": ("Router",),
    "routing.text_router": ("TextRouter",),
    "routing.train": ("train_router",),
    "sample": ("RoutingSample",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
# These need a project file, which `import *` cannot ask for.
__all__ = sorted(set(_HOME) - {"ADAPTER_LABELS", "STANDARD_ADAPTER_ORDER"})

if TYPE_CHECKING:  # the same names for type checkers; tests/test_public_api.py compares
    from pointsman.adapters.check.check import check_adapter as check_adapter
    from pointsman.adapters.peft import load_base_with_loras as load_base_with_loras
    from pointsman.adapters.seal import seal_adapters as seal_adapters
    from pointsman.adapters.train import train_adapter as train_adapter
    from pointsman.conversation import Prompt as Prompt
    from pointsman.conversation import Turn as Turn
    from pointsman.conversation import make_prompt as make_prompt
    from pointsman.data.check import check_dataset as check_dataset
    from pointsman.data.generate import generate_dataset as generate_dataset
    from pointsman.engine.answer import Answer as Answer
    from pointsman.engine.engine import Engine as Engine
    from pointsman.engine.logprobs import TokenLogprob as TokenLogprob
    from pointsman.engine.options import EngineOptions as EngineOptions
    from pointsman.engine.peft_backend import route_and_generate as route_and_generate
    from pointsman.engine.sampling import Sampling as Sampling
    from pointsman.engine.stream import Stream as Stream
    from pointsman.errors import AbstainedError as AbstainedError
    from pointsman.errors import ArtefactError as ArtefactError
    from pointsman.errors import ConfigError as ConfigError
    from pointsman.errors import EngineClosedError as EngineClosedError
    from pointsman.errors import EngineStateError as EngineStateError
    from pointsman.errors import ImageError as ImageError
    from pointsman.errors import LabelError as LabelError
    from pointsman.errors import MismatchError as MismatchError
    from pointsman.errors import MissingDependency as MissingDependency
    from pointsman.errors import PointsmanError as PointsmanError
    from pointsman.errors import QueueFullError as QueueFullError
    from pointsman.errors import RequestError as RequestError
    from pointsman.errors import SampleError as SampleError
    from pointsman.evaluation.evaluate import evaluate as evaluate
    from pointsman.labels import LabelMap as LabelMap
    from pointsman.models.base import Base as Base
    from pointsman.models.base import load_base as load_base
    from pointsman.models.features import FeatureRecipe as FeatureRecipe
    from pointsman.models.text_encoder import TextEncoder as TextEncoder
    from pointsman.models.text_encoder import load_encoder as load_encoder
    from pointsman.project import Project as Project
    from pointsman.project import load_project as load_project
    from pointsman.routing.extend import extend_router as extend_router
    from pointsman.routing.feature_store import preprocess as preprocess
    from pointsman.routing.head import build_router_head as build_router_head
    from pointsman.routing.legacy_pt import load_router_head as load_router_head
    from pointsman.routing.route import Route as Route
    from pointsman.routing.router import Router as Router
    from pointsman.routing.text_router import TextRouter as TextRouter
    from pointsman.routing.train import train_router as train_router
    from pointsman.sample import RoutingSample as RoutingSample

    ADAPTER_LABELS: dict[str, int]
    STANDARD_ADAPTER_ORDER: list[str]
else:  # seen by a type checker, it would make every misspelt name an Any

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'pointsman' has no attribute {name!r}")
        return getattr(import_module(f"pointsman.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
