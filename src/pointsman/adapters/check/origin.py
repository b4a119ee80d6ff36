"""Whether an adapter was made for this base, and whether its prompts can invoke it."""

from pointsman.adapters.check.structure import NAME
from pointsman.adapters.files import AdapterFile
from pointsman.adapters.load import check_origin, is_same_model
from pointsman.conversation import user_turn
from pointsman.errors import PointsmanError
from pointsman.findings import TRAIN_AGAIN, Findings
from pointsman.models.base import Base

# What the base's shapes tell


def check_origin_of(run: Findings, adapter: AdapterFile, base: Base) -> None:
    try:
        check_origin(base, NAME, adapter.folder)
    except PointsmanError as error:
        message = str(error).removeprefix(f"adapter {NAME} ({adapter.folder}) ")
        message, _, mend = message.rpartition("; ")
        run.error("other-base", message or str(error), mend or TRAIN_AGAIN)
        return
    named = str(adapter.config.get("base_model_name_or_path") or "")
    mine, theirs = (value.rstrip("/").rpartition("/")[2] for value in (named, base.id))
    if "qwen" not in mine.lower() or "qwen" not in theirs.lower():
        return  # a folder's name tells nothing
    if not is_same_model(mine, theirs):
        run.warning("other-base", f"was made for {named}, the base is {base.id}", TRAIN_AGAIN)
    elif mine.lower() != theirs.lower():
        mend = "compare its answers with the trainer's"
        run.warning("other-base", f"was trained on {named}, a copy of {base.id}", mend)


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
            f"{base.id} makes of a prompt, so that it would never be on",
            TRAIN_AGAIN,
        )
