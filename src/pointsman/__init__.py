"""Pointsman picks the right LoRA for a request.

The public names below are imported when they are first used, so that ``import pointsman`` costs
nothing and ``pointsman --help`` does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ADAPTER_LABELS": "project",
    "Answer": "answer",
    "Engine": "engine",
    "FeatureRecipe": "features",
    "LabelMap": "labels",
    "PointsmanError": "errors",
    "Route": "router",
    "Router": "router",
    "RoutingSample": "sample",
    "Sampling": "sampling",
    "build_router_head": "head",
    "load_base": "base",
    "load_base_with_loras": "adapters",
    "load_encoder": "encoder",
    "load_router_head": "router",
    "make_prompt": "base",
    "route": "with_peft",
    "route_and_generate": "with_peft",
    "train_router": "train",
}
# Not ADAPTER_LABELS: it needs a project file, which `import *` cannot ask for.
__all__ = sorted(set(_HOME) - {"ADAPTER_LABELS"})

if TYPE_CHECKING:
    from pointsman.adapters import load_base_with_loras as load_base_with_loras
    from pointsman.answer import Answer as Answer
    from pointsman.base import load_base as load_base
    from pointsman.base import make_prompt as make_prompt
    from pointsman.encoder import load_encoder as load_encoder
    from pointsman.engine import Engine as Engine
    from pointsman.errors import PointsmanError as PointsmanError
    from pointsman.features import FeatureRecipe as FeatureRecipe
    from pointsman.head import build_router_head as build_router_head
    from pointsman.labels import LabelMap as LabelMap
    from pointsman.router import Route as Route
    from pointsman.router import Router as Router
    from pointsman.router import load_router_head as load_router_head
    from pointsman.sample import RoutingSample as RoutingSample
    from pointsman.sampling import Sampling as Sampling
    from pointsman.train import train_router as train_router
    from pointsman.with_peft import route as route
    from pointsman.with_peft import route_and_generate as route_and_generate


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pointsman' has no attribute {name!r}")
    return getattr(import_module(f"pointsman.{_HOME[name]}"), name)
