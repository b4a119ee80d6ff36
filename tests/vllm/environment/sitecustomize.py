"""Defines two operators of torchvision's before torchvision is imported.

Its compiled operators do not load beside a CPU build of torch, and its import fails where it
registers implementations for them. vLLM uses its transforms only, so two schemas are enough.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept = []  # a library's operators go with it


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing; it acts when torchvision is looked for, once."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for schema in SCHEMAS:
                library.define(schema)
            _kept.append(library)
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
