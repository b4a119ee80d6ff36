"""Loads what an engine needs: base, adapters, router, and what answers with them."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pointsman.adapters.check.check import check_on_load
from pointsman.adapters.files import fetch_adapter
from pointsman.adapters.load import load_base_with_loras
from pointsman.adapters.weights import Lora, lora_of
from pointsman.engine.backend import Backend
from pointsman.engine.lora_stack import LoraStack
from pointsman.engine.options import EngineOptions
from pointsman.engine.peft_backend import PeftBackend
from pointsman.engine.plan import Plan
from pointsman.engine.scheduler import Scheduler
from pointsman.errors import ConfigError
from pointsman.models.base import Base
from pointsman.models.checkpoint import Dtype
from pointsman.models.text_encoder import TextEncoder
from pointsman.project import Project
from pointsman.routing.load import load_encoder_of, load_router
from pointsman.routing.router import Router
from pointsman.routing.seal import unsealed_note
from pointsman.routing.sessions import Sessions

_log = logging.getLogger("pointsman.engine")


def load_parts(
    project: Project, where: str, device: str | None, dtype: Dtype | None
) -> tuple[Base, Router, TextEncoder | None]:
    """What a project names; what is refused is refused before the base is loaded."""
    router = load_router(project, where)
    if project.base is None:
        raise ConfigError(f'{where}: needs base = "a Hub id or folder" to answer with')
    folders = {name: fetch_adapter(name, path) for name, path in project.adapters.items()}
    router.check_adapters(folders)
    encoder = load_encoder_of(router, project.encoder, device=device, dtype=dtype)
    if encoder is not None:
        router.check_base(encoder)
    base = load_base_with_loras(
        project.base,
        {name: str(folder) for name, folder in folders.items()},
        revision=project.revision,
        device=device,
        dtype=dtype,
        max_pixels=project.max_pixels,
    )
    return base, router, encoder


def load_adapters(base: Base, router: Router) -> list[Lora | str]:
    """The router's adapters in label order: each one's matrices, or why it cannot be stacked.

    Raises:
        ConfigError: one that the base does not have.
        MismatchError: one that is not the one that was sealed.
        ArtefactError: one that ``check_adapter`` finds faulty.
    """
    if missing := [name for name in router.labels if name not in base.adapters]:
        raise ConfigError(
            f"adapter {missing[0]!r} of the router's label map {router.labels} is not loaded; "
            "add its path to [adapters]"
        )
    router.check_adapters({name: base.adapters[name] for name in router.labels})
    for name in router.labels:
        check_added(name, base.adapters[name], base)
    if router.unsealed:
        _log.warning(unsealed_note(router.unsealed))
    return [lora_of(base.model, name) for name in router.labels]


def check_added(name: str, folder: Path, base: Base) -> None:
    """Refuses a faulty adapter, and logs what is odd about it."""
    for finding in check_on_load(name, folder, base):
        _log.warning(str(finding).removeprefix("warning: "))


def make_backend(
    base: Base,
    router: Router,
    plan: Plan,
    loras: Sequence[Lora | str],
    encoder: TextEncoder | None,
    sessions: Sessions,
    options: EngineOptions,
) -> tuple[Base, Backend]:
    """What answers under a plan, and the base that it answers with."""
    if plan.name == "peft":
        return base, PeftBackend(base, router, encoder or base, sessions)
    base = replace(base, model=base.model.unload())
    stackable = [lora for lora in loras if isinstance(lora, Lora)]
    stack = LoraStack(base, stackable, resident=options.resident, max_rank=options.max_rank)
    return base, Scheduler(
        base,
        router,
        plan,
        stack,
        encoder or base,
        sessions,
        slots=options.slots,
        kept=options.kept,
        shapes=options.prefill_shapes,
    )
