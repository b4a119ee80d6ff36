"""Whether an adapter was made for this base, and whether its prompts can invoke it."""

import re
from dataclasses import replace
from pathlib import Path

from pointsman.adapters.files import CONFIG, NOTE, AdapterFile
from pointsman.conversation import user_turn
from pointsman.errors import ArtefactError, MismatchError
from pointsman.files import read_object
from pointsman.findings import RETRAIN, Findings
from pointsman.models.base import Base
from pointsman.models.checkpoint import Fingerprint

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_CACHED = re.compile(r"(?:^|/)models--([^/]+?)(?:--([^/]+))?(?:/snapshots/.*)?$")
# Suffixes that publishers of quantised copies append to a model's name.
_QUANTISED = re.compile(r"(-unsloth)?(-bnb)?-(4bit|8bit|fp8|awq|int4|int8|gptq(-int[48])?)$")


def check_origin(run: Findings, adapter: AdapterFile, base: Base) -> None:
    """Reports an adapter whose files name another base.

    A skeleton has no weights, so weights are not compared with it.
    """
    named = _model_in(str(adapter.config.get("base_model_name_or_path") or ""))
    given = _model_in(base.id)
    mine, theirs = (value.rpartition("/")[2] for value in (named, given))
    note = adapter.folder / NOTE
    if note.is_file():  # written by train_adapter: digests of the exact base
        _check_note(run, note, base)
        if _is_hub_id(named) and "qwen" in theirs.lower() and not is_same_model(mine, theirs):
            hint = "correct base_model_name_or_path, which other tools load"
            run.warning("other-base", f"{CONFIG} names {named}, the base is {base.id}", hint)
        return
    if all(map(_is_hub_id, (named, given))) and not is_same_model(named, given):
        run.error("other-base", f"was made for {named}, not for {base.id}", RETRAIN)
        return
    if "qwen" not in mine.lower() or "qwen" not in theirs.lower():
        return  # a folder's name proves nothing
    if not is_same_model(mine, theirs):
        run.warning("other-base", f"was made for {named}, the base is {base.id}", RETRAIN)
    elif mine.lower() != theirs.lower():
        hint = "compare its answers with the trainer's"
        run.warning("other-base", f"was trained on {named}, a copy of {base.id}", hint)


def _check_note(run: Findings, note: Path, base: Base) -> None:
    try:
        trained_on = Fingerprint(**read_object(note)["fingerprint"])
    except (ArtefactError, KeyError, TypeError):
        run.error("config", f"{note.name} does not say which base made the adapter", RETRAIN)
        return
    if not base.fingerprint.weights:
        trained_on = replace(trained_on, weights="")
    try:
        trained_on.check_same(base.fingerprint, "the adapter", f"the base {base.id}", RETRAIN)
    except MismatchError as error:
        message, _, hint = str(error).rpartition("; ")
        run.error("other-base", message.removeprefix("the adapter "), hint)


def is_same_model(named: str, other: str) -> bool:
    """Whether two Hub ids are the same model, or one is a quantised copy of it for training."""
    publishers, models = zip(
        *(value.lower().rpartition("/")[::2] for value in (named, other)), strict=True
    )
    if publishers[0] != publishers[1] and "unsloth" not in publishers:
        return False
    return len({_QUANTISED.sub("", model) for model in models}) == 1


def _model_in(name: str) -> str:
    """The Hub id that a path of the Hub's cache stands for; any other name with single slashes."""
    path = re.sub(r"[\\/]+", "/", name).rstrip("/")
    if cached := _CACHED.search(path):
        return "/".join(part for part in cached.groups() if part)
    return path


def _is_hub_id(value: str) -> bool:
    return _HUB_ID.fullmatch(value) is not None and not Path(value).exists()


def check_invocation(run: Findings, adapter: AdapterFile, base: Base) -> None:
    tokens = adapter.config.get("alora_invocation_tokens")
    if not tokens:
        return
    prompt = base.render([user_turn("Go", 0)])
    ids = list(base.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    starts = range(len(ids) - len(tokens) + 1)
    if not any(ids[start : start + len(tokens)] == list(tokens) for start in starts):
        run.error(
            "invocation",
            f"its alora_invocation_tokens {list(tokens)} are not in what the chat template of "
            f"{base.id} makes of a prompt, it would never be active",
            RETRAIN,
        )
