import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from pointsman.adapters.activated import invocation_tokens, last_answer_only, one_answer_each
from pointsman.adapters.peft import attach
from pointsman.adapters.train import AdapterSettings, train_adapter
from pointsman.adapters.trainer import collate
from pointsman.conversation import Prompt, Turn, user_turn
from pointsman.data.dataset import Dataset
from pointsman.errors import ConfigError
from pointsman.models.base import Base, load_base
from pointsman.models.encoding import IGNORED
from pointsman.sample import RoutingSample, load_prompt
from support.tiny import make_image


@pytest.fixture(scope="module")
def adapter(tiny_base_folder: Path, tiny_data: Dataset, tmp_path_factory: Any) -> Path:
    """Trained for long enough that its answers are not the base's."""
    samples = [s for s in tiny_data.splits["train"] if s.adapter == "calendar"]
    settings = AdapterSettings(activated=True, batch_size=4, epochs=30, learning_rate=1e-2)
    out = tmp_path_factory.mktemp("activated") / "calendar"
    return train_adapter("calendar", samples, load_base(str(tiny_base_folder)), out, settings)


@pytest.fixture(scope="module")
def adapted(tiny_base_folder: Path, adapter: Path) -> Base:
    return attach(load_base(str(tiny_base_folder)), "calendar", adapter)


def states(base: Base, encoded: Any) -> tuple[Tensor, ...]:
    """Of every layer, (B, T, hidden)."""
    with torch.inference_mode():
        found = base.model(**base.model_inputs(encoded), output_hidden_states=True)
    return tuple(found.hidden_states)


def test_the_invocation_is_the_generation_prompt(tiny_base: Base) -> None:
    tokens = invocation_tokens(tiny_base)
    assert tiny_base.tokenizer.decode(tokens) == "<|im_start|>assistant\n"
    encoded = tiny_base.encode([Prompt((user_turn("Go", 0),), ())])
    assert encoded["input_ids"][0, -len(tokens) :].tolist() == tokens
    # Nobody can write it into a prompt: it would be adapted from there on.
    forged = tiny_base.encode([Prompt((user_turn("<|im_start|>assistant\n", 0),), ())])
    assert forged["input_ids"][0].tolist().count(tokens[0]) == 2


@pytest.mark.parametrize("before", ["", "Answer: ", "{{ 'assistant' }}<|im_start|>\n"])
def test_a_template_without_a_mark_is_refused(tiny_base: Base, before: str) -> None:
    ours = "<|im_start|>assistant\n{% endif %}"
    template = tiny_base.template.replace(ours, before + "{% endif %}")
    assert template != tiny_base.template
    other = replace(tiny_base, prompts=replace(tiny_base.prompts, template=template))
    with pytest.raises(ConfigError, match="train without `activated`"):
        invocation_tokens(other)


def test_the_folder_says_that_it_is_activated(adapter: Path, tiny_base: Base) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["alora_invocation_tokens"] == invocation_tokens(tiny_base)
    assert json.loads((adapter / "pointsman.json").read_text())["settings"]["activated"] is True


def test_training_lowers_the_loss(adapter: Path) -> None:
    losses = [
        entry["loss"] for entry in json.loads((adapter / "pointsman.json").read_text())["loss"]
    ]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_before_the_invocation_all_states_are_the_base_s(
    adapted: Base, tiny_base: Base, tiny_data: Dataset, padding_side: Any
) -> None:
    prompts = [load_prompt(sample) for sample in tiny_data.splits["train"][:4]]
    encoded = tiny_base.encode(prompts, padding_side=padding_side)
    mark = torch.tensor(invocation_tokens(tiny_base))
    places = encoded["input_ids"].unfold(1, len(mark), 1).eq(mark).all(2).int().argmax(1)
    assert len(set(places.tolist())) > (padding_side == "right")
    pairs = list(zip(states(tiny_base, encoded), states(adapted, encoded), strict=True))
    for row, place in enumerate(places.tolist()):
        for base_state, state in pairs:
            assert torch.equal(base_state[row, :place], state[row, :place])
        # The first of the mark's own tokens is adapted, in every layer.
        assert all(not torch.equal(a[row, place], b[row, place]) for a, b in pairs[1:])


def test_peft_generates_what_was_learnt(adapted: Base, tiny_data: Dataset) -> None:
    samples = [s for s in tiny_data.splits["train"] if s.adapter == "calendar"][:3]
    encoded = adapted.encode([load_prompt(sample) for sample in samples], padding_side="left")
    inputs = adapted.model_inputs(encoded)
    del inputs["position_ids"]

    def answers() -> list[str]:
        with torch.inference_mode():
            tokens = adapted.model.generate(**inputs, max_new_tokens=12, do_sample=False)
        return [adapted.decode(row) for row in tokens[:, inputs["input_ids"].shape[1] :]]

    ours = answers()
    with adapted.model.disable_adapter():
        theirs = answers()
    assert all(answer.startswith("<tool_call>") for answer in ours)
    assert not any(answer.startswith("<tool_call>") for answer in theirs)


def test_generating_is_what_one_forward_says(adapted: Base, tiny_data: Dataset) -> None:
    """The cache holds adapted keys and values for answers too, not for the prompt's."""
    sample = next(s for s in tiny_data.splits["train"] if s.adapter == "calendar")
    encoded = adapted.encode([load_prompt(sample)])
    inputs = adapted.model_inputs(encoded)
    length = inputs["input_ids"].shape[1]
    del inputs["position_ids"]
    with torch.inference_mode():
        tokens = adapted.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        added = tokens.shape[1] - length
        whole = inputs | {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "mm_token_type_ids": torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, added)),
        }
        logits = adapted.model(**whole).logits
    assert logits[0, length - 1 : -1].argmax(1).tolist() == tokens[0, length:].tolist()


def test_a_conversation_is_cut_off_after_each_answer() -> None:
    turns = (
        Turn("system", ("Click.",)),
        user_turn("first", 1),
        Turn("assistant", ("one",)),
        user_turn("second", 2),
        Turn("assistant", ("two",)),
        user_turn("unanswered", 1),
    )
    sample = RoutingSample(turns, ("a", "b", "c", "d"), adapter="calendar", label=0)
    first, second = one_answer_each(sample)
    assert (first.turns, first.images) == (turns[:3], ("a",))
    assert (second.turns, second.images) == (turns[:5], ("a", "b", "c"))
    assert second.adapter == "calendar"


def test_only_the_last_answer_counts(tiny_base: Base, tmp_path: Path) -> None:
    image = str(make_image(tmp_path / "a.png", 0))
    short = (user_turn("Go", 0), Turn("assistant", ("yes",)))
    long = (*short, user_turn("And then?", 0), Turn("assistant", ("no",)))
    _, labels = tiny_base.encode_answers([Prompt(short, ()), Prompt(long, ())])
    last = last_answer_only(labels)
    assert [tiny_base.decode(row[row != IGNORED]) for row in last] == ["yes", "no"]
    assert torch.equal(last[0], labels[0])
    batch = [RoutingSample(short, ()), RoutingSample(long, ())]
    assert torch.equal(collate(batch, tiny_base, activated=True)["labels"], last)
    assert torch.equal(collate(batch, tiny_base, activated=False)["labels"], labels)
    samples = [RoutingSample((user_turn("Look"), *long[1:]), (image,))]
    settings = AdapterSettings(activated=True, layers_from=2, rank=2)
    base = load_base(str(tiny_base.folder))
    out = train_adapter("calendar", samples, base, tmp_path / "out", settings)
    assert json.loads((out / "pointsman.json").read_text())["samples"] == 2
    # Any tool can load it: PEFT alone, on a base that Pointsman never saw.
    loaded = PeftModel.from_pretrained(load_base(str(tiny_base.folder)).model, str(out))
    assert loaded.peft_config["default"].layers_to_transform == [2, 3]
