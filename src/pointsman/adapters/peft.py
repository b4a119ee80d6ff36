"""Adapters on a base through PEFT: for training, for checks, and for any kind of adapter."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, PeftModelForCausalLM, set_peft_model_state_dict

from pointsman.adapters.check.files import check_files
from pointsman.adapters.check.finite import diverged, probe_logits
from pointsman.adapters.check.origin import check_origin
from pointsman.adapters.check.peft_fit import fit_any, is_known
from pointsman.adapters.check.structure import check_structure
from pointsman.adapters.files import AdapterFile
from pointsman.adapters.layout import Layout
from pointsman.adapters.load import Adapter, open_adapter, raise_errors
from pointsman.adapters.weights import Lora
from pointsman.adapters.with_loras import BaseWithLoras
from pointsman.errors import ArtefactError, ConfigError, LabelError
from pointsman.findings import Findings
from pointsman.labels import LabelMap
from pointsman.models.base import Base, load_base
from pointsman.models.checkpoint import Dtype


def load_base_with_loras(
    base_model_id: str,
    lora_paths: Mapping[str, str | Path],
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: Dtype | None = None,
    max_pixels: int | None = None,
) -> BaseWithLoras:
    """Loads a base and all its adapters, frozen.

    The first adapter is active until ``set_adapter``.

    Args:
        base_model_id: Hub id or folder.
        lora_paths: adapter name to folder or Hub id, in label order.

    Returns:
        The base; its ``model`` is a ``PeftModel`` that holds every adapter under its name.

    Raises:
        ArtefactError: an adapter is missing, broken, pickled, only partly loaded or diverged.
        MismatchError: an adapter was made for another base.
        LabelError: an adapter's name is not legal.
        ConfigError: as ``load_base``; or the base has FP8 weights.
    """
    labels = LabelMap(tuple(lora_paths))
    # Every file is read before the base is loaded, which may take minutes.
    files = {name: open_adapter(name, lora_paths[name]) for name in labels}
    base = load_base(
        base_model_id, revision=revision, device=device, dtype=dtype, max_pixels=max_pixels
    )
    for name, file in files.items():
        base = attach(base, name, file)
        check_answer(base, name)
    return BaseWithLoras.of(base)


def attach(base: Base, name: str, adapter: Adapter | AdapterFile | str | Path) -> Base:
    """The base with one more adapter, fully loaded and frozen.

    Args:
        adapter: where its files are, or what ``open_adapter`` or ``fit_adapter`` returns for them.

    Raises:
        MismatchError: the adapter was made for another base.
        ArtefactError: anything else that ``check_adapter`` calls an error.
        LabelError: the name is that of a module that an adapter replaces.
        ConfigError: the base has FP8 weights, which PEFT does not know.
    """
    if base.precision == "fp8":
        raise ConfigError(
            f"{base.id}: PEFT cannot run adapters on FP8 weights; give dtype bfloat16 or, to an "
            "engine, adapters that can be stacked"
        )
    is_checked = isinstance(adapter, Adapter) and isinstance(adapter.lora, Lora)
    if isinstance(adapter, Adapter):
        adapter = adapter.file
    file = adapter if isinstance(adapter, AdapterFile) else open_adapter(name, adapter)
    if not is_checked:
        _check(name, file, base)
    adapters = {**base.adapters, name: file.folder}
    model = _placed(base, name, file).requires_grad_(False).eval()
    return replace(base, model=model, adapters=adapters)


def _check(name: str, file: AdapterFile, base: Base) -> None:
    run = Findings(f"adapter {name}: {file.folder}")
    check_files(run, file)
    check_origin(run, file, base)
    if is_known(run, file.config):
        layout = Layout.of(base.model)
        fitter = partial(fit_any, layout=layout, model=base.model)
        check_structure(run, file, fitter, layout, base.id)
    raise_errors(run)


def _placed(base: Base, name: str, file: AdapterFile) -> PeftModel:
    """The base's model with an adapter that fits it."""
    options = copy.deepcopy(file.config) | {"inference_mode": True}
    model = base.model
    _check_wrapped([*base.adapters, name], [options, *_options_on(model)])
    try:
        config = PeftConfig.from_peft_type(**PeftConfig.check_kwargs(**options))
        if isinstance(model, PeftModel):
            model.add_adapter(name, config)
        else:
            # The adapter's own task type is ignored: only this class finds where an activated
            # LoRA begins; under any other it would never be active.
            model = PeftModelForCausalLM(model, config, adapter_name=name)
        # Not from the folder: these are the tensors that were checked.
        set_peft_model_state_dict(model, dict(file.tensors), adapter_name=name)
    except Exception as error:  # PEFT raises almost anything on a wrong adapter
        if isinstance(model, PeftModel) and name in model.peft_config:  # half added
            detach(model, name)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArtefactError(
            f"adapter {name}: {file.folder} does not fit the base {base.id} ({reason}); "
            "use the base that it was trained on"
        ) from None
    return model


def _options_on(model: Any) -> list[dict[str, Any]]:
    """The configurations of the adapters that a model has."""
    return [vars(config) for config in getattr(model, "peft_config", {}).values()]


def _check_wrapped(names: Iterable[str], configs: Iterable[Mapping[str, Any]]) -> None:
    """Raises ``LabelError`` for an adapter's name that PEFT would take for a module.

    PEFT finds the modules that an adapter replaces whole by the end of their paths, and other
    adapters' matrices end with the adapters' names.
    """
    for config in configs:
        whole = list(config.get("modules_to_save") or ())
        if config.get("trainable_token_indices"):
            whole += ["embed_tokens", "lm_head"]
        for name in names:
            if any(name == module.rpartition(".")[2] for module in whole):
                raise LabelError(
                    f"adapter name {name!r} is the name of a module that an adapter replaces; "
                    "choose another name"
                )


def detach(model: PeftModel, name: str) -> None:
    """Removes an adapter, or what is there of it; without others, PEFT's modules too."""
    others = [other for other in model.peft_config if other != name]
    if not others:
        model.unload()
        return
    # PEFT warns when the adapter that was last on is deleted.
    model.set_adapter(others[0], inference_mode=True)
    model.delete_adapter(name)


def check_answer(base: Base, name: str) -> None:
    """Answers a synthetic prompt with an attached adapter.

    Raises:
        ArtefactError: the logits are not all finite.
    """
    with adapter_on(base, name):
        is_fine = bool(probe_logits(base).isfinite().all())
    if not is_fine:
        raise diverged(name)


@contextmanager
def adapter_on(base: Base, name: str | None) -> Iterator[None]:
    """Inside the block one adapter is on, or all are off."""
    if name is None:
        with base.without_adapters():
            yield
        return
    # Without inference_mode PEFT would turn gradients on.
    base.model.set_adapter(name, inference_mode=True)
    yield
