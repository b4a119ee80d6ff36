"""Pointsman picks the right LoRA for a request.

The public names below are imported when they are first used, so that ``import pointsman`` costs
nothing and ``pointsman --help`` does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
_HOME = {
    "ADAPTER_LABELS": "project",
    "Answer": "engine.answer",
    "Engine": "engine.engine",
    "FeatureRecipe": "models.features",
    "LabelMap": "labels",
    "PointsmanError": "errors",
    "Route": "routing.route",
    "Router": "routing.router",
    "RoutingSample": "sample",
    "Sampling": "engine.sampling",
    "build_router_head": "routing.head",
    "load_base": "models.base",
    "load_base_with_loras": "adapters.load",
    "load_encoder": "models.text_encoder",
    "load_router_head": "routing.legacy_pt",
    "make_prompt": "conversation",
    "route_and_generate": "engine.peft_backend",
    "train_router": "routing.train",
}
# Not ADAPTER_LABELS: it needs a project file, which `import *` cannot ask for.
__all__ = sorted(set(_HOME) - {"ADAPTER_LABELS"})

if TYPE_CHECKING:
    from pointsman.adapters.load import load_base_with_loras as load_base_with_loras
    from pointsman.conversation import make_prompt as make_prompt
    from pointsman.engine.answer import Answer as Answer
    from pointsman.engine.engine import Engine as Engine
    from pointsman.engine.peft_backend import route_and_generate as route_and_generate
    from pointsman.engine.sampling import Sampling as Sampling
    from pointsman.errors import PointsmanError as PointsmanError
    from pointsman.labels import LabelMap as LabelMap
    from pointsman.models.base import load_base as load_base
    from pointsman.models.features import FeatureRecipe as FeatureRecipe
    from pointsman.models.text_encoder import load_encoder as load_encoder
    from pointsman.routing.head import build_router_head as build_router_head
    from pointsman.routing.legacy_pt import load_router_head as load_router_head
    from pointsman.routing.route import Route as Route
    from pointsman.routing.router import Router as Router
    from pointsman.routing.train import train_router as train_router
    from pointsman.sample import RoutingSample as RoutingSample


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pointsman' has no attribute {name!r}")
    return getattr(import_module(f"pointsman.{_HOME[name]}"), name)
