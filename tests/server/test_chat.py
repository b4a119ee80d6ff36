"""Chat completions, over HTTP with the stock client in strict mode."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from pointsman.engine.engine import Engine
from pointsman.evaluation.demo import demo_samples
from pointsman.sample import load_prompt
from support.server import CALENDAR, Server, data_url, screen, serve, user

ADAPTERS = ["calendar", "claim-window", "provider-select"]


@pytest.fixture(scope="module")
def answers() -> list[tuple[Any, bytes, Any]]:
    """The demo's samples, their screens, and the engine's own answers."""
    with demo_samples() as samples, Engine.pocket() as engine:
        screens = [Path(sample.images[0]).read_bytes() for sample in samples]
        found = engine.generate_batch([load_prompt(sample) for sample in samples])
        return list(zip(samples, screens, found, strict=True))


def ask(client: openai.OpenAI, model: str = "auto", **options: Any) -> Any:
    options = {"messages": [user(CALENDAR, screen())], **options}
    return client.chat.completions.create(model=model, **options)


def test_models(client: openai.OpenAI) -> None:
    found = {model.id: model.model_extra or {} for model in client.models.list()}
    assert list(found) == ["base", "auto", *ADAPTERS]
    assert found["base"]["parent"] is None
    assert {found[name]["parent"] for name in ADAPTERS} == {"base"}
    assert len({found[name]["digest"] for name in ADAPTERS}) == 3
    assert client.models.retrieve("calendar").id == "calendar"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_auto_answers_as_the_engine(server: Server, answers: list[tuple[Any, bytes, Any]]) -> None:
    async def one(
        client: openai.AsyncOpenAI, sample: Any, picture: bytes, stream: bool
    ) -> tuple[str, Any]:
        message = user(sample.instruction, picture)
        if not stream:
            found = await client.chat.completions.create(model="auto", messages=[message])
            return str(found.choices[0].message.content), found.model_extra
        events = [
            event
            async for event in await client.chat.completions.create(
                model="auto", messages=[message], stream=True
            )
        ]
        text = "".join(event.choices[0].delta.content or "" for event in events)
        return text.strip(), events[0].model_extra

    async def all_of() -> list[tuple[str, Any]]:
        async with server.async_client() as client:
            calls = [one(client, s, p, at % 2 == 0) for at, (s, p, _) in enumerate(answers)]
            return list(await asyncio.gather(*calls))

    for (text, extra), (sample, _, answer) in zip(asyncio.run(all_of()), answers, strict=True):
        assert (text, extra["pointsman"]["adapter"]) == (answer.text, sample.adapter)


def test_names(client: openai.OpenAI) -> None:
    routed = ask(client).choices[0].message.content
    assert ask(client, "calendar").choices[0].message.content == routed
    assert ask(client, "base:calendar").choices[0].message.content == routed
    assert ask(client, "base").choices[0].message.content != routed
    with pytest.raises(openai.NotFoundError, match="there are auto, base, calendar"):
        ask(client, "nothing")


def test_a_stream_ends_with_usage(client: openai.OpenAI) -> None:
    events = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert events[0].choices[0].delta.role == "assistant"
    assert events[-2].choices[0].finish_reason == "stop"
    assert (events[-1].choices, events[-1].usage.completion_tokens) == ([], 10)
    assert all(event.usage is None for event in events[:-1])
    whole = ask(client)
    assert events[-1].usage == whole.usage


def test_usage_in_every_event(client: openai.OpenAI) -> None:
    """As vLLM's load generator asks for it."""
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    events = list(ask(client, stream=True, stream_options=options))
    prompt = ask(client).usage.prompt_tokens
    counts = [event.usage.completion_tokens for event in events]
    assert {event.usage.prompt_tokens for event in events} == {prompt}
    assert all(
        event.usage.total_tokens == prompt + n for event, n in zip(events, counts, strict=True)
    )
    assert counts == [*range(11), 10]  # the first event has no text, the last no token
    cut = list(ask(client, stream=True, max_tokens=5))[1:]
    assert [bool(event.choices[0].delta.content) for event in cut] == [True] * 5
    assert [event.choices[0].finish_reason for event in cut] == [*[None] * 4, "length"]
    without = ask(client, stream=True, stream_options={**options, "include_usage": False})
    assert all(event.usage is None for event in without)


def test_headers(client: openai.OpenAI) -> None:
    create = client.chat.completions.with_raw_response.create
    raw = create(model="auto", messages=[user(CALENDAR, screen())])
    found = {n.removeprefix("x-pointsman-"): v for n, v in raw.headers.items() if "pointsman" in n}
    decision: Any = raw.parse().model_extra
    decision = decision["pointsman"]
    assert (found["adapter"], found["label"], found["abstained"]) == ("calendar", "0", "false")
    assert found["confidence"] == f"{max(decision['probabilities'].values()):.4f}"
    assert (found["plan"], found["router"]) == ("in-pass", decision["router_digest"])
    assert found["generation"] == client.models.retrieve("calendar").model_extra["digest"]  # type: ignore[index]
    assert float(found["overhead-ms"]) > 0
    assert "probabilities" not in found
    debug = {"x-pointsman-debug": "1"}
    raw = create(model="auto", messages=[user(CALENDAR, screen())], extra_headers=debug)
    # Of the same response: another batch may round differently.
    shown: Any = raw.parse().model_extra
    found_too = json.loads(raw.headers["x-pointsman-probabilities"])
    assert found_too == shown["pointsman"]["probabilities"]


def test_n_and_seeds(client: openai.OpenAI) -> None:
    options: Any = {"n": 3, "temperature": 1.5, "seed": 5, "max_tokens": 12}
    once, again = (ask(client, **options) for _ in range(2))
    texts = [choice.message.content for choice in once.choices]
    assert [choice.index for choice in once.choices] == [0, 1, 2]
    assert [choice.message.content for choice in again.choices] == texts
    streamed = ["", "", ""]
    for event in ask(client, stream=True, **options):
        for choice in event.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert [text.strip() for text in streamed] == texts


def test_limits_on_length(client: openai.OpenAI) -> None:
    assert ask(client, max_tokens=2).choices[0].finish_reason == "length"
    assert ask(client, max_completion_tokens=2).usage.completion_tokens == 2
    assert ask(client, max_tokens=65535).choices[0].finish_reason == "stop"
    found = ask(client, stop=["coordinate"]).choices[0]
    assert (found.message.content.endswith('click", "'), found.finish_reason) == (True, "stop")


def test_log_probabilities(client: openai.OpenAI) -> None:
    found = ask(client, logprobs=True, top_logprobs=3, max_tokens=5)
    tokens = found.choices[0].logprobs.content
    assert len(tokens) == 5
    assert all(len(token.top_logprobs) == 3 for token in tokens)
    assert all(token.logprob == token.top_logprobs[0].logprob <= 0 for token in tokens)
    said = b"".join(bytes(token.bytes) for token in tokens).decode()
    assert said.strip() == found.choices[0].message.content
    events = ask(client, logprobs=True, top_logprobs=3, max_tokens=5, stream=True)
    shown = [e.choices[0].logprobs.content for e in events if e.choices[0].logprobs]
    assert [token for part in shown for token in part] == tokens


def test_several_turns_and_images(client: openai.OpenAI) -> None:
    first = ask(client).choices[0].message
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "developer", "content": "Answer with a click."},
        user(CALENDAR, screen()),
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": "Again, please"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
        user(CALENDAR, screen(), screen("0021")),
    ]
    assert ask(client, messages=messages).choices[0].message.content


def test_a_session_keeps_its_adapter(client: openai.OpenAI) -> None:
    ask(client, extra_headers={"x-session-id": "one"})
    follow = [{"role": "user", "content": "and the next one"}]
    held = ask(client, messages=follow, extra_headers={"x-session-id": "one"})
    assert held.model_extra["pointsman"]["adapter"] == "calendar"
    for body in ({"session_id": "one"}, {"prompt_cache_key": "one"}):
        held = ask(client, messages=follow, extra_body=body)
        assert held.model_extra["pointsman"]["adapter"] == "calendar"
    # The header wins.
    other = ask(
        client,
        messages=[user("Show me the weather", screen("0122"))],
        extra_headers={"x-session-id": "two"},
        extra_body={"session_id": "one"},
    )
    assert other.model_extra["pointsman"]["held"] is False
    choices = [{"value": name} for name in ADAPTERS]
    decide: Any = client.decisions.create
    found = decide(
        model="auto",
        input="and the next one",
        questions=[{"type": "choice", "instructions": "Which?", "choices": choices}],
        extra_headers={"x-session-id": "one"},
    )
    assert found.model_extra["pointsman"]["adapter"] == "calendar"


def test_background_requests_abstain(client: openai.OpenAI) -> None:
    """As Open WebUI sends them to the model of the chat, for a title."""
    text = "### Task:\nGenerate a concise title.\n### Chat History:\nUSER: Click December 3"
    found = ask(client, messages=[{"role": "user", "content": text}], max_tokens=4)
    assert found.model_extra["pointsman"]["abstained"] is True
    assert found.model_extra["pointsman"]["adapter"] is None


def test_text_is_routed_if_the_project_says_so(tmp_path: Path) -> None:
    messages: Any = [{"role": "user", "content": CALENDAR}]
    with serve(tmp_path / "log", settings="route_text = true\n") as other, other.client() as client:
        found: Any = client.chat.completions.create(model="auto", messages=messages, max_tokens=4)
    with Engine.pocket() as engine:
        route = engine.route(None, CALENDAR)
    assert (found.pointsman["abstained"], found.pointsman["adapter"]) == (False, route.adapter)


def test_decisions(client: openai.OpenAI) -> None:
    parts = [
        {"type": "input_image", "image_url": data_url(screen()), "detail": "auto"},
        {"type": "input_text", "text": CALENDAR},
    ]
    create: Any = client.decisions.create
    choices = [{"value": name} for name in ADAPTERS]
    found = create(
        model="auto",
        input=[{"role": "user", "content": parts}],
        questions=[{"type": "choice", "instructions": "Which?", "choices": choices}],
    )
    assert found.answers[0].choice == "calendar"
    assert found.usage.input_tokens > 100


def test_calls_come_back_as_text_and_calls(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "computer_use", "parameters": {}}}
    raw = client.chat.completions.with_raw_response.create(
        model="auto",
        messages=[user(CALENDAR, screen())],
        tools=[tool],  # type: ignore[list-item]
    )
    [choice] = raw.parse().choices
    assert choice.message.content is not None
    assert choice.message.content.startswith("<tool_call>")
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "computer_use"
    assert json.loads(call.function.arguments)["action"] == "left_click"
    assert choice.finish_reason == "tool_calls"
    # The pocket's chat template shows no tools.
    assert raw.headers["x-pointsman-ignored"] == "tools"
