"""``auto`` in a real vLLM, over HTTP with the stock client: plan in-pass."""

import asyncio
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from pointsman.engine.engine import Engine
from pointsman.files import digest_file
from support.tiny import ADAPTERS
from support.vllm_projects import CONFIG, POCKET, copied_pocket
from support.vllm_server import BASE, NEEDS_VLLM, VllmServer, image_part, serve
from support.vllm_traffic import (
    Client,
    Expected,
    Question,
    expect,
    expected_routes,
    traffic,
    user,
)

pytestmark = NEEDS_VLLM


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    log = tmp_path_factory.mktemp("vllm") / "log"
    with serve(POCKET / "base", log, config=POCKET / CONFIG) as server:
        yield server


@pytest.fixture(scope="module")
def client(vllm: VllmServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{vllm.url}/v1", api_key="none", max_retries=0) as found:
        yield found


def in_client(vllm: VllmServer, work: Callable[[Client], Any]) -> Any:
    """Runs a coroutine with the asynchronous client."""

    async def run() -> Any:
        async with Client(vllm.url) as found:
            return await work(found)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def expected(vllm: VllmServer, questions: list[Question]) -> Expected:
    with Engine.pocket() as engine:
        routes = expected_routes(engine, questions)
    found: Expected = in_client(vllm, lambda client: expect(client, questions, routes, ADAPTERS))
    return found


def parts(question: Question) -> list[dict[str, Any]]:
    """A question in the form of the Responses and Decisions interfaces."""
    url = image_part(question.image)["image_url"]["url"]
    image = {"type": "input_image", "image_url": url, "detail": "auto"}
    return [image, {"type": "input_text", "text": question.text}]


def test_auto_and_the_adapters_are_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [BASE, "auto", *ADAPTERS]


def test_mixed_traffic_is_routed_and_answered_as_alone(
    vllm: VllmServer, questions: list[Question], expected: Expected
) -> None:
    assert [route.adapter for route in expected.routes] == [q.adapter for q in questions]
    texts = {text for (number, _), text in expected.texts.items() if number == 0}
    assert len(texts) > 1  # the models differ, or nothing would be tested
    outcome = in_client(
        vllm,
        lambda client: traffic(client, questions, expected, requests=64, clients=12),
    )
    assert outcome.wrong == []
    assert len(outcome.counts) == 8  # every kind of request was made


def test_a_decision_says_what_is_behind_it(vllm: VllmServer, questions: list[Question]) -> None:
    answer = in_client(vllm, lambda client: client.ask("auto", questions[0].messages))
    adapter = questions[0].adapter
    decision = answer.decision
    assert sum(decision["probabilities"].values()) == pytest.approx(1)
    assert list(decision["probabilities"]) == list(ADAPTERS)
    assert decision["router_digest"] == digest_file(POCKET / "router/config.json")
    weights = POCKET / "adapters" / str(adapter) / "adapter_model.safetensors"
    assert decision["adapter_digests"]["adapter_model.safetensors"] == digest_file(weights)
    assert answer.headers["x-pointsman-router"] == decision["router_digest"]
    assert answer.headers["x-pointsman-label"] == str(ADAPTERS.index(str(adapter)))
    assert answer.headers["x-pointsman-abstained"] == "false"


def test_answers_in_the_conversation_do_not_route(
    vllm: VllmServer, questions: list[Question], expected: Expected
) -> None:
    """The assistant's turn is that of another adapter; the router must not see it."""
    number = 0
    other = next(text for (n, m), text in expected.texts.items() if n and m in ADAPTERS)
    turns = [*questions[number].messages, {"role": "assistant", "content": other}]
    turns += [user("Once more: " + questions[number].text)]
    answer = in_client(vllm, lambda client: client.ask("auto", turns))
    assert answer.decision["adapter"] == questions[number].adapter
    named = in_client(vllm, lambda client: client.ask(str(questions[number].adapter), turns))
    assert answer.text == named.text


def test_all_samples_of_a_request_have_one_adapter(
    client: openai.OpenAI, questions: list[Question]
) -> None:
    found: Any = client.chat.completions.create(
        model="auto",
        messages=questions[0].messages,  # type: ignore[arg-type]
        n=3,
        max_tokens=48,
        temperature=0.5,
        seed=1,
    )
    answers = [choice.message.content for choice in found.choices]
    assert len(answers) == 3
    assert all(answer.startswith("<tool_call>") for answer in answers)  # no answer of the base
    assert found.pointsman["adapter"] == questions[0].adapter


def test_a_session_keeps_its_adapter(vllm: VllmServer, questions: list[Question]) -> None:
    outside = next(question for question in questions if question.adapter is None)
    names: list[dict[str, Any]] = [
        {"extra_headers": {"x-session-id": "one"}, "extra_body": {"session_id": "two"}},
        {"extra_body": {"session_id": "one", "prompt_cache_key": "two"}},
        {"extra_body": {"prompt_cache_key": "one"}},
    ]

    async def ask(client: Client) -> tuple[list[Any], Any]:
        await client.ask("auto", questions[0].messages, **names[0])
        held = [await client.ask("auto", outside.messages, **name) for name in names]
        held += [await client.ask("auto", [user("and the next one")], **name) for name in names]
        alone = (await client.ask("auto", outside.messages)).decision
        return [answer.decision for answer in held], alone

    held, alone = in_client(vllm, ask)
    assert {decision["adapter"] for decision in held} == {questions[0].adapter}
    assert [decision["held"] for decision in held[:3]] == [True] * 3
    assert (alone["adapter"], alone["abstained"]) == (None, True)


def test_a_session_without_a_name(client: openai.OpenAI, questions: list[Question]) -> None:
    messages: Any = questions[0].messages
    with pytest.raises(openai.BadRequestError, match="prompt_cache_key: 7 names no session"):
        client.chat.completions.create(
            model="auto", messages=messages, extra_body={"prompt_cache_key": 7}
        )


def test_background_requests_abstain(vllm: VllmServer, client: openai.OpenAI) -> None:
    """As `pointsman serve` answers them: by the base, though the router has a favourite."""
    turns = [user("Click December 3 in the calendar")]
    answered = [*turns, {"role": "assistant", "content": "done"}, user("A title for this chat")]

    async def ask(client: Client) -> list[Any]:
        found = [await client.ask("auto", messages) for messages in (turns, answered)]
        return [*found, await client.ask(BASE, turns)]

    alone, later, base = in_client(vllm, ask)
    for answer in (alone, later):
        assert (answer.decision["adapter"], answer.decision["abstained"]) == (None, True)
    assert alone.text == base.text
    choices = [{"value": name} for name in ADAPTERS]
    decide: Any = client.decisions.create
    found = decide(
        model="auto",
        input="Click December 3 in the calendar",
        questions=[{"type": "choice", "instructions": "Which?", "choices": choices}],
    )
    assert found.answers[0].type == "refusal"


def test_decisions_of_the_stock_client(client: openai.OpenAI, questions: list[Question]) -> None:
    choices = [{"value": name} for name in ADAPTERS]
    ask: Any = client.decisions.create
    found = ask(
        model="auto",
        input=[{"role": "user", "content": parts(questions[0])}],
        questions=[{"type": "choice", "instructions": "Which?", "choices": choices}],
    )
    [answer] = found.answers
    assert (answer.type, answer.choice) == ("choice", questions[0].adapter)
    assert sum(one.probability for one in answer.probabilities) == pytest.approx(1)
    assert found.usage.input_tokens > 20
    outside = next(question for question in questions if question.adapter is None)
    found = ask(
        model="auto",
        input=[{"role": "user", "content": parts(outside)}],
        questions=[{"type": "choice", "instructions": "Which?", "choices": choices}],
    )
    assert found.answers[0].type == "refusal"


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([], "at least one question"),
        ([{"type": "predicate", "instructions": "?"}], 'type "choice"'),
        (
            [{"type": "choice", "instructions": "?", "choices": [{"value": "a"}, {"value": "b"}]}],
            "'a' is none of the adapters",
        ),
    ],
)
def test_decisions_that_are_none(questions: Any, message: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        client.decisions.create(model="auto", input="Click", questions=questions)


def test_other_interfaces(
    client: openai.OpenAI, questions: list[Question], expected: Expected
) -> None:
    given: Any = [{"role": "user", "content": parts(questions[0])}]
    found: Any = client.responses.create(
        model="auto", input=given, max_output_tokens=48, temperature=0
    )
    assert found.output_text == expected.texts[0, expected.model(0)]
    assert found.pointsman["adapter"] == questions[0].adapter
    given += [{"role": "assistant", "content": "done"}, {"role": "user", "content": "again"}]
    with pytest.raises(openai.BadRequestError, match="/v1/chat/completions"):
        client.responses.create(model="auto", input=given)
    text: Any = client.completions.create(model="auto", prompt="Click the day", max_tokens=4)
    assert set(text.pointsman["probabilities"]) == set(ADAPTERS)
    assert text.pointsman["abstained"] is True  # a request without an image


def test_a_prompt_of_one_token_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="a prompt of 1 token"):
        client.completions.create(model="auto", prompt=[100], max_tokens=4)


def test_a_part_that_the_router_cannot_read(client: openai.OpenAI) -> None:
    sound: Any = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    with pytest.raises(openai.BadRequestError, match="'input_audio'"):
        client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": [sound]}]
        )


def test_counters(vllm: VllmServer, questions: list[Question]) -> None:
    name = f'pointsman_routed_requests_total{{abstained="false",adapter="{questions[0].adapter}"}}'

    def count() -> float:
        with urllib.request.urlopen(f"{vllm.url}/metrics") as response:
            lines = response.read().decode().splitlines()
        return float(next((line.split()[-1] for line in lines if line.startswith(name)), 0))

    before = count()
    in_client(vllm, lambda client: client.ask("auto", questions[0].messages))
    in_client(vllm, lambda client: client.ask(str(questions[0].adapter), questions[0].messages))
    assert count() == before + 1


def test_adapters_at_run_time(vllm: VllmServer, tmp_path: Path) -> None:
    changed = copied_pocket(tmp_path / "pocket").parent / "adapters/calendar"
    sealed = POCKET / "adapters/calendar"
    config = json.loads((changed / "adapter_config.json").read_text())
    (changed / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 1}))
    assert vllm.load("calendar", sealed, in_place=True) is None
    assert "is not the file that the router sealed" in str(
        vllm.load("calendar", changed, in_place=True)
    )
    assert "choose another name" in str(vllm.load("auto", changed, in_place=True))
    for name in ("calendar", "auto"):
        with pytest.raises(urllib.error.HTTPError) as error:
            vllm.unload(name)
        assert (error.value.code, b"cannot be unloaded" in error.value.read()) == (400, True)
    other = tmp_path / "other"
    shutil.copytree(sealed, other)
    assert vllm.load("a-fourth", other) is None  # the slot for others
    assert "--max-loras 7 or more" in str(vllm.load("a-fifth", other))
