"""Loading LoRAs onto one base, through PEFT."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, PeftModelForCausalLM
from torch import Tensor

from pointsman.adapters.files import CONFIG, NOTE, WEIGHTS, fetch_adapter
from pointsman.adapters.with_loras import BaseWithLoras
from pointsman.errors import ArtefactError, MismatchError
from pointsman.files import read_object, read_tensors
from pointsman.labels import LabelMap, check_name
from pointsman.models.base import Base, load_base
from pointsman.models.checkpoint import Fingerprint

# LoraConfig has no default targets for Qwen3-VL, and "all-linear" also hits the vision tower.
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def load_base_with_loras(
    base_model_id: str,
    lora_paths: Mapping[str, str | Path],
    *,
    revision: str | None = None,
    device: str | None = None,
    max_pixels: int | None = None,
) -> BaseWithLoras:
    """Loads a base and all its adapters, frozen.

    The first adapter is active until ``set_adapter``; ``Engine`` switches them for each request.

    Args:
        base_model_id: Hub id or folder.
        lora_paths: adapter name to folder or Hub id, in label order.

    Returns:
        The base, its ``model`` a ``PeftModel`` that holds every adapter under its name.

    Raises:
        ArtefactError: an adapter that is missing, broken, pickled or only half loaded.
        MismatchError: an adapter made for another base.
        LabelError: an adapter name that cannot be one.
    """
    labels = LabelMap(tuple(lora_paths))
    # Every folder is looked at before the base is loaded, which may take minutes.
    folders = {name: fetch_adapter(name, str(lora_paths[name])) for name in labels}
    base = load_base(base_model_id, revision=revision, device=device, max_pixels=max_pixels)
    for name, folder in folders.items():
        base = attach(base, name, folder)
    return BaseWithLoras.of(base)


def attach(base: Base, name: str, folder: Path, *, onto_nothing: bool = False) -> Base:
    """The base with one more adapter, loaded whole and frozen.

    Args:
        onto_nothing: the base is a skeleton that only has shapes; the adapter's weights are real.

    Raises:
        ArtefactError: broken, or its weights do not fill exactly the modules it names.
        MismatchError: made for another base.
    """
    check_name(name)
    check_origin(base, name, folder)
    state = read_tensors(folder / WEIGHTS)  # refuses a truncated file or a pickle
    if not onto_nothing:
        _check_leaves_base_alone(base, name, folder, state)
    try:
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        if isinstance(base.model, PeftModel):
            model = base.model
        else:
            # Whatever the adapter's own task type: only this class finds out where an activated
            # LoRA begins, and under any other it would never be on.
            model = PeftModelForCausalLM(
                base.model, config, adapter_name=name, low_cpu_mem_usage=onto_nothing
            )
        result = model.load_adapter(
            str(folder), name, is_trainable=False, low_cpu_mem_usage=onto_nothing
        )
    except Exception as error:  # PEFT raises almost anything on a wrong adapter
        reason = (str(error).strip() or type(error).__name__).splitlines()
        detail = next((line.strip() for line in reason if "size mismatch" in line), reason[0])
        kind = MismatchError if "size mismatch" in detail else ArtefactError
        raise kind(
            f"adapter {name}: {folder} does not fit the base {base.id} ({detail}); "
            "use the base that it was trained on"
        ) from None
    if result.unexpected_keys or result.missing_keys or not state:
        keys = result.unexpected_keys or result.missing_keys or ["no weights at all"]
        raise ArtefactError(
            f"adapter {name}: {folder}: {len(result.unexpected_keys)} of its weights match "
            f"nothing in the base {base.id} and {len(result.missing_keys)} are missing, such as "
            f"{keys[0]}; it was made for another model or by a tool with other key names: "
            f"`pointsman adapters check {folder} --base {base.id}` says more"
        )
    adapters = {**base.adapters, name: folder}
    return replace(base, model=model.requires_grad_(False).eval(), adapters=adapters)


def check_origin(base: Base, name: str, folder: Path) -> None:
    """Raises ``MismatchError`` if an adapter says that it was made for another base.

    A skeleton's weights are not known, and are not compared.
    """
    note = folder / NOTE
    mend = "use the base that the adapter was trained on, or train the adapter again"
    mine, theirs = f"adapter {name} ({folder})", f"the base at hand ({base.id})"
    if note.is_file():  # written by train_adapter: digests of the very base
        try:
            trained_on = Fingerprint(**read_object(note)["fingerprint"])
        except (KeyError, TypeError):
            raise ArtefactError(f"{note}: does not say which base made the adapter") from None
        if not base.fingerprint.weights:
            trained_on = replace(trained_on, weights="")
        trained_on.check_same(base.fingerprint, mine, theirs, mend)
        return
    config = read_object(folder / CONFIG)
    named = str(config.get("base_model_name_or_path") or "")
    both_hub_ids = all(is_hub_id(value) for value in (named, base.id))
    if both_hub_ids and not is_same_model(named, base.id):
        raise MismatchError(f"{mine} was made for {named}, not for {base.id}; {mend}")


# What publishers of quantised copies put behind a model's name.
_QUANTISED = re.compile(r"(-unsloth)?(-bnb)?-(4bit|8bit|fp8|awq|int4|int8|gptq(-int[48])?)$")


def is_same_model(named: str, other: str) -> bool:
    """Whether two Hub ids are one model, or a quantised copy of it to train adapters on."""
    publishers, models = zip(
        *(value.lower().rpartition("/")[::2] for value in (named, other)), strict=True
    )
    if publishers[0] != publishers[1] and "unsloth" not in publishers:
        return False
    return len({_QUANTISED.sub("", model) for model in models}) == 1


REWRITING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to initialise a LoRA that take what they start with off the base's own weights."""


def rewrites_base(config: Mapping[str, Any]) -> str | None:
    """The initialisation by which loading an adapter would change the base's own weights."""
    init = str(config.get("init_lora_weights") or "").lower()
    return init if init.startswith(REWRITING_INITS) else None


def base_weights_in(base: Base, config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    """Keys of an adapter that name the base's own weights, to the weights they would replace.

    PEFT copies them onto the base that all adapters and the router share, without a word.
    """
    saved = tuple(config.get("modules_to_save") or ())
    own = {}
    for path in base.model.state_dict():
        own[path.removeprefix("base_model.model.").replace(".base_layer.", ".")] = path
    found = {}
    for key in keys:
        path = key.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if path in own and not any(part in saved for part in path.split(".")):
            found[key] = own[path]
    return found


def _check_leaves_base_alone(
    base: Base, name: str, folder: Path, state: Mapping[str, Tensor]
) -> None:
    """Raises ``ArtefactError`` if loading would change the base under other adapters' feet."""
    config = read_object(folder / CONFIG)
    if (init := rewrites_base(config)) is not None:
        raise ArtefactError(
            f"adapter {name}: {folder}: init_lora_weights is {init!r}, which changes the base's "
            "own weights on loading; save it with PEFT's path_initial_model_for_weight_conversion"
        )
    own = base.model.state_dict()
    for key, path in base_weights_in(base, config, state).items():
        if own[path].shape != state[key].shape or not torch.equal(
            own[path].to(state[key]), state[key]
        ):
            raise ArtefactError(
                f"adapter {name}: {folder}: {key} would replace the base's own weights for every "
                "adapter; merge the adapter into a base of its own, or train it without"
            )


def is_hub_id(value: str) -> bool:
    return value.count("/") == 1 and not value.startswith((".", "~")) and not Path(value).exists()


@contextmanager
def adapter_on(base: Base, name: str | None) -> Iterator[None]:
    """One adapter on, or all off, inside the block."""
    if name is None:
        with base.without_adapters():
            yield
        return
    # Without inference_mode PEFT would turn gradients on.
    base.model.set_adapter(name, inference_mode=True)
    yield
