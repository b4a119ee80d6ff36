"""Log probabilities: those of a stock forward, with each token's bytes."""

import pytest
import torch

from pointsman.engine.engine import Engine
from pointsman.engine.logprobs import Logprobs, TokenLogprob
from pointsman.engine.sampling import Sampling
from pointsman.models.base import Base
from support.engines import MIXED

SAMPLINGS = {
    "greedy": {},
    "sampled": {"temperature": 2.0, "top_k": 30, "seed": 3},
    "penalised": {"repetition_penalty": 1.3, "frequency_penalty": 1.0},
}


def asked(engine: Engine, index: int, count: int, **options: object) -> tuple[TokenLogprob, ...]:
    sampling = Sampling(logprobs=count, **options)  # type: ignore[arg-type]
    [answer] = engine.generate_batch(
        [MIXED[index]], adapter="calendar", max_new_tokens=10, sampling=sampling
    )
    assert answer.logprobs is not None
    assert len(answer.logprobs) == answer.completion_tokens
    return answer.logprobs


@pytest.mark.parametrize("options", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_they_are_those_of_a_stock_forward(
    engine: Engine, reference: Base, index: int, options: dict[str, object]
) -> None:
    found = asked(engine, index, 5, **options)
    texts = Logprobs(reference.tokenizer)
    of = {texts._bytes_of(t): t for t in reference.tokenizer.get_vocab().values()}
    said = [of[entry.bytes] for entry in found]
    inputs = reference.stock_inputs(reference.encode([MIXED[index]]))
    del inputs["position_ids"]
    for name, filler in (("input_ids", None), ("attention_mask", 1), ("mm_token_type_ids", 0)):
        more = [said] if filler is None else [[filler] * len(said)]
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.tensor(more)], 1)
    reference.model.set_adapter("calendar", inference_mode=True)
    with torch.inference_mode():
        logits = reference.model(**inputs).logits[0, -len(said) - 1 : -1]
    scores = logits.float().log_softmax(-1)
    for entry, token, row in zip(found, said, scores, strict=True):
        assert entry.logprob == pytest.approx(float(row[token]), abs=1e-3)
        highest, tokens = row.topk(5)
        assert [of[alternative] for _, alternative, _ in entry.top] == tokens.tolist()
        assert [value for *_, value in entry.top] == pytest.approx(highest.tolist(), abs=1e-3)


def test_a_plain_answer_stays_as_it_is_and_has_none(engine: Engine) -> None:
    [plain] = engine.generate_batch([MIXED[0]], adapter="calendar", max_new_tokens=10)
    found = asked(engine, 0, 0)
    assert plain.logprobs is None
    assert all(entry.top == () for entry in found)
    text = b"".join(entry.bytes for entry in found).decode(errors="replace")
    assert text.strip() == plain.text


def test_entries_come_no_later_than_their_text(engine: Engine) -> None:
    stream = engine.submit(
        MIXED[0], adapter="calendar", max_new_tokens=40, sampling=Sampling(logprobs=1)
    )
    read = ""
    for piece in stream:
        read += piece
        said = b"".join(entry.bytes for entry in list(stream.logprobs))
        assert said.decode(errors="ignore").startswith(read.replace("\ufffd", ""))
    assert tuple(stream.logprobs) == stream.result(20).logprobs


def test_bytes_of_every_token_join_to_the_text(engine: Engine) -> None:
    texts = Logprobs(engine.base.tokenizer)
    text = "naïve 日本語 🙂\n<|im_end|>\ttab"
    tokens = engine.base.tokenizer(text)["input_ids"]
    parts = [texts._bytes_of(token) for token in tokens]
    assert b"".join(parts).decode() == text
    assert b"<|im_end|>" in parts
    assert b"\xf0" in parts, "the tiny base splits characters"
    assert texts._text_of(tokens[parts.index(b"\xf0")]) == ("\ufffd", b"\xf0")
    assert texts._bytes_of(10**6) == b"", "the model's vocabulary is larger than the tokenizer's"
