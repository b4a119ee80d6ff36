"""Mixed traffic of the stock client against a vLLM in which the router chooses."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openai import AsyncOpenAI
from PIL import Image

from pointsman.engine.engine import Engine
from pointsman.labels import ROUTED
from pointsman.sample import RoutingSample, load_prompt
from support.vllm_server import BASE, image_part

TOKENS = 48


@dataclass(frozen=True)
class Question:
    """One screen and instruction, and what it should come to."""

    image: Image.Image
    text: str
    adapter: str | None = None
    """The adapter that it is for; None: it is for none"""

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [user(self.text, self.image)]


def question_of(sample: RoutingSample) -> Question:
    """The question of a sample with one image and one turn."""
    prompt = load_prompt(sample)
    return Question(prompt.images[0], prompt.turns[0].text, sample.adapter)


def user(text: str, *images: Image.Image) -> dict[str, Any]:
    """A user's message of chat completions."""
    parts = [image_part(image) for image in images]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


@dataclass(frozen=True)
class Answer:
    text: str
    decision: Mapping[str, Any] | None
    """The object ``pointsman``; None: the request named a model"""
    headers: Mapping[str, str]


class Client:
    """The stock asynchronous client. Close it in the loop in which it was used."""

    def __init__(self, url: str) -> None:
        self._client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(
        self,
        model: str,
        messages: Sequence[Any],
        *,
        stream: bool = False,
        stop_after: int | None = None,
        **options: Any,
    ) -> Answer:
        """The answer of a model.

        Args:
            stop_after: hang up after this many parts of a stream.
        """
        options = {"max_tokens": TOKENS, "temperature": 0} | options
        raw: Any = await self._client.chat.completions.with_raw_response.create(
            model=model, messages=list(messages), stream=stream, **options
        )
        headers = {name: value for name, value in raw.headers.items() if "pointsman" in name}
        if not stream:
            found = raw.parse()
            decision = (found.model_extra or {}).get("pointsman")
            return Answer(found.choices[0].message.content, decision, headers)
        texts, decision = [], None
        async with raw.parse() as parts:
            async for number, part in _numbered(parts):
                decision = (part.model_extra or {}).get("pointsman", decision)
                texts += [choice.delta.content or "" for choice in part.choices]
                if number == stop_after:
                    break
        return Answer("".join(texts), decision, headers)


async def _numbered(parts: Any) -> Any:
    number = 0
    async for part in parts:
        number += 1
        yield number, part


@dataclass
class Expected:
    """What each question comes to: by the stand-alone router, and by the named models."""

    routes: list[Any]
    texts: dict[tuple[int, str], str]
    """By question and model"""

    def model(self, number: int) -> str:
        """The model that answers a question of ``auto``."""
        return self.routes[number].adapter or BASE


def expected_routes(engine: Engine, questions: Iterable[Question]) -> list[Any]:
    """The decisions of the stand-alone engine."""
    return [engine.route(question.image, question.text) for question in questions]


async def expect(
    client: Client, questions: Sequence[Question], routes: list[Any], models: Sequence[str]
) -> Expected:
    """Asks named models one by one: the answering one, the base, and another."""
    found = Expected(routes, {})
    for number, question in enumerate(questions):
        names = {found.model(number), BASE, models[number % len(models)]}
        for name in sorted(names):
            found.texts[number, name] = (await client.ask(name, question.messages)).text
    return found


@dataclass
class Outcome:
    """What random traffic came to."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def check(self, number: int, model: str, answer: Answer, expected: Expected) -> None:
        """Compares one whole answer, and the decision behind it."""
        answering = model
        if model == ROUTED:
            route, decision = expected.routes[number], answer.decision
            answering = expected.model(number)
            if decision is None or decision["label"] != route.label:
                self.wrong.append(f"question {number}: route {decision}, expected {route}")
            elif answer.headers.get("x-pointsman-adapter") != answering:
                self.wrong.append(f"question {number}: headers {answer.headers}")
        elif answer.decision is not None:
            self.wrong.append(f"question {number} to {model}: decided {answer.decision}")
        if answer.text != expected.texts[number, answering]:
            self.wrong.append(
                f"question {number} to {model} ({answering}): {answer.text!r}, expected "
                f"{expected.texts[number, answering]!r}"
            )


async def traffic(
    client: Client,
    questions: Sequence[Question],
    expected: Expected,
    *,
    requests: int,
    clients: int,
    seed: int = 0,
) -> Outcome:
    """Random requests: of ``auto``, of an adapter, of the base; streams; some hang up."""
    outcome, remaining = Outcome(), iter(range(requests))
    generator = random.Random(seed)

    async def caller() -> None:
        for _ in remaining:
            number = generator.randrange(len(questions))
            known = [model for question, model in expected.texts if question == number]
            model = ROUTED if generator.random() < 0.6 else generator.choice(known)
            kind = generator.choices(("whole", "stream", "cancelled", "hung up"), (45, 40, 8, 7))[0]
            outcome.counts[f"{'routed' if model == ROUTED else 'named'}, {kind}"] += 1
            question = client.ask(
                model,
                questions[number].messages,
                stream=kind in ("stream", "hung up"),
                stop_after=generator.randint(1, 6) if kind == "hung up" else None,
            )
            if kind == "cancelled":
                await _cancelled(question, generator.random())
            else:
                answer = await question
                if kind != "hung up":
                    outcome.check(number, model, answer, expected)

    await asyncio.gather(*(caller() for _ in range(clients)))
    return outcome


async def _cancelled(question: Any, seconds: float) -> None:
    task = asyncio.ensure_future(question)
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
