"""Loads what an engine needs: base, adapters, router, and the backend."""

import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pointsman.adapters.check.finite import check_finite
from pointsman.adapters.files import AdapterFile
from pointsman.adapters.layout import Layout
from pointsman.adapters.load import Adapter, fit_adapter, open_adapter, open_sealed
from pointsman.adapters.weights import Lora
from pointsman.engine.backend import Backend
from pointsman.engine.forward import start_compilers
from pointsman.engine.lora_stack import LoraStack
from pointsman.engine.options import EngineOptions
from pointsman.engine.plan import Plan, free_depth
from pointsman.engine.scheduler import Scheduler
from pointsman.errors import ConfigError
from pointsman.labels import LabelMap
from pointsman.models.base import Base, load_base
from pointsman.models.checkpoint import Dtype, pick_device
from pointsman.models.text_encoder import TextEncoder
from pointsman.project import Project
from pointsman.routing.load import load_encoder_of, load_router
from pointsman.routing.router import Router
from pointsman.routing.seal import unsealed_note
from pointsman.routing.sessions import Sessions

_log = logging.getLogger("pointsman.engine")

Source = AdapterFile | str | Path
"""An adapter's files, or where they are"""


def load_parts(
    project: Project, where: str, device: str | None, dtype: Dtype | None
) -> tuple[Base, Router, dict[str, AdapterFile], TextEncoder | None]:
    """Loads a project's parts; anything to refuse is refused before the base is loaded."""
    router = load_router(project, where)
    if project.base is None:
        raise ConfigError(f'{where}: needs base = "a Hub id or folder" to answer with')
    files = {name: open_sealed(name, path, router) for name, path in project.adapters.items()}
    encoder = load_encoder_of(router, project.encoder, device=device, dtype=dtype)
    if encoder is not None:
        router.check_base(encoder)
    if pick_device(device).type == "cuda":
        start_compilers()  # they start while the base is loaded
    base = load_base(
        project.base,
        revision=project.revision,
        device=device,
        dtype=dtype,
        max_pixels=project.max_pixels,
    )
    return base, router, files, encoder


def load_adapters(
    base: Base, layout: Layout, router: Router, sources: Mapping[str, Source]
) -> list[Adapter]:
    """The router's adapters in label order, each one's files read once.

    Raises:
        ConfigError: ``sources`` lacks an adapter.
        MismatchError: an adapter differs from the sealed one, or was made for another base.
        ArtefactError: ``check_adapter`` finds an error in an adapter.
    """
    if missing := [name for name in router.labels if name not in sources]:
        raise ConfigError(
            f"adapter {missing[0]!r} of the router's label map {router.labels} is not loaded; "
            "add its path to [adapters]"
        )
    files = {name: open_sealed(name, sources[name], router) for name in router.labels}
    adapters = fitted(files, base, layout)
    if router.unsealed:
        _log.warning(unsealed_note(router.unsealed))
    return adapters


def free_depth_of(adapters: Mapping[str, str | Path], labels: LabelMap, depth: int) -> int:
    """The layers up to which routing among these adapters costs nothing, see ``free_depth``.

    Raises:
        ConfigError: ``adapters`` lacks a label's.
        ArtefactError: an adapter's files are faulty.
    """
    if missing := [name for name in labels if name not in adapters]:
        raise ConfigError(
            f"adapter {missing[0]!r} of the features' label map {labels} is not given; "
            "add its path to [adapters]"
        )
    return free_depth([open_adapter(name, adapters[name]) for name in labels], depth)


def fitted(files: Mapping[str, AdapterFile], base: Base, layout: Layout) -> list[Adapter]:
    """Adapters that fit the base and give finite answers; their warnings are logged."""
    adapters = [fit_adapter(name, file, base, layout) for name, file in files.items()]
    for adapter in adapters:
        for finding in adapter.warnings:
            _log.warning(str(finding).removeprefix("warning: "))
    check_finite(base, [a.lora for a in adapters if isinstance(a.lora, Lora)])
    return adapters


def make_backend(
    base: Base,
    router: Router,
    plan: Plan,
    adapters: Sequence[Adapter],
    encoder: TextEncoder | None,
    sessions: Sessions,
    options: EngineOptions,
) -> Backend:
    """The backend for a plan; ``options`` have their defaults set."""
    fallback = str(options.fallback)
    if plan.name == "peft":
        # Importing PEFT takes as long as loading the pocket model, and no other plan needs it.
        peft_backend: Any = import_module("pointsman.engine.peft_backend")
        backend: Backend = peft_backend.PeftBackend(
            base, router, encoder, sessions, slots=options.slots, fallback=fallback
        )
        for adapter in adapters:
            backend.add(adapter)
        return backend
    loras = [adapter.lora for adapter in adapters if isinstance(adapter.lora, Lora)]
    stack = LoraStack(base, loras, resident=options.resident, max_rank=options.max_rank)
    return Scheduler(
        base,
        router,
        plan,
        stack,
        encoder or base,
        sessions,
        slots=options.slots,
        kept=options.kept,
        fallback=fallback,
    )
