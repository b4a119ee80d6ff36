"""Answers: responses of chat completions, whole or as server-sent events, in OpenAI's form."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from pointsman.engine.answer import Answer
from pointsman.engine.logprobs import TokenLogprob
from pointsman.engine.stream import Stream
from pointsman.protocol.shown import OBJECT
from pointsman.server.service import Running

_REASONS = {"stop": "stop", "length": "length", "cancelled": "stop"}


class Response:
    """The parts of one request's response."""

    def __init__(self, running: Running, fingerprint: str) -> None:
        self._running = running
        self._common: dict[str, Any] = {
            "id": running.id,
            "created": int(time.time()),
            "model": running.asked.model,  # as it was asked for
            "system_fingerprint": fingerprint,
        }

    async def whole(self) -> dict[str, Any]:
        """The complete response. Raises the error of an answer that failed."""
        answers = [await stream for stream in self._running.streams]
        choices = [self._choice(number, answer) for number, answer in enumerate(answers)]
        return {
            **self._common,
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage(answer.completion_tokens for answer in answers),
            OBJECT: self._running.shown,
        }

    def _choice(self, number: int, answer: Answer) -> dict[str, Any]:
        calls = _calls(answer) if self._running.asked.with_tools else []
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        return {
            "index": number,
            "message": message,
            "finish_reason": "tool_calls" if calls else _REASONS[answer.finish_reason],
            "logprobs": None
            if answer.logprobs is None
            else _logprobs(_said(answer, answer.logprobs)),
        }

    async def events(self) -> AsyncIterator[str]:
        """The response as server-sent events; an error becomes one, since the status is sent."""
        first: dict[str, Any] = {OBJECT: self._running.shown}
        for number in range(len(self._running.streams)):
            delta = {"role": "assistant", "content": "", "refusal": None}
            yield self._event([self._delta(number, delta)], **first)
            first = {}
        async for event in _merged(
            [self._pieces(n, s) for n, s in enumerate(self._running.streams)]
        ):
            yield event
        if self._running.asked.with_usage:
            yield self._event([], usage=self._usage_so_far())
        yield "data: [DONE]\n\n"

    async def _pieces(self, number: int, stream: Stream) -> AsyncIterator[str]:
        """The events of one answer."""
        told, last_text = 0, ""
        async for piece in stream:
            if stream.is_done and stream.error is None:
                last_text += piece  # told with the end, as vLLM does
                continue
            tokens, told = stream.logprobs[told : stream.tokens_read], stream.tokens_read
            yield self._event([self._delta(number, {"content": piece}, logprobs=tokens)])
        answer = await stream
        calls = _calls(answer) if self._running.asked.with_tools else []
        delta: dict[str, Any] = {"content": last_text} if last_text else {}
        if calls:
            delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
        reason = "tool_calls" if calls else _REASONS[answer.finish_reason]
        tokens = _said(answer, stream.logprobs[told:])
        yield self._event([self._delta(number, delta, reason, tokens)])

    def _delta(
        self,
        number: int,
        delta: dict[str, Any],
        reason: str | None = None,
        logprobs: Sequence[TokenLogprob] | None = None,
    ) -> dict[str, Any]:
        asked = self._running.asked.samplings[number].logprobs is not None
        shown = _logprobs(logprobs) if asked and logprobs else None
        return {"index": number, "delta": delta, "finish_reason": reason, "logprobs": shown}

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> str:
        if self._running.asked.with_usage_so_far:
            more = {"usage": self._usage_so_far(), **more}
        elif self._running.asked.with_usage:
            more = {"usage": None, **more}
        return event(
            {**self._common, "object": "chat.completion.chunk", "choices": choices, **more}
        )

    def _usage_so_far(self) -> dict[str, Any]:
        return self._usage(stream.tokens_read for stream in self._running.streams)

    def _usage(self, tokens: Iterable[int]) -> dict[str, Any]:
        """Of answers with so many tokens each."""
        read, said = self._running.streams[0].prompt_tokens, sum(tokens)
        return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}


def event(content: Any) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def _merged(sources: list[AsyncIterator[str]]) -> AsyncIterator[str]:
    """What several iterators give, as it comes."""
    if len(sources) == 1:
        async for one in sources[0]:
            yield one
        return
    queue: asyncio.Queue[str | BaseException | None] = asyncio.Queue(maxsize=64)

    async def read(source: AsyncIterator[str]) -> None:
        try:
            async for one in source:
                await queue.put(one)
            await queue.put(None)
        except Exception as error:
            await queue.put(error)

    tasks = [asyncio.create_task(read(source)) for source in sources]
    try:
        left = len(tasks)
        while left:
            found = await queue.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()


def _calls(answer: Answer) -> list[dict[str, Any]]:
    """The calls in an answer's text."""
    return [
        {
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        for name, arguments in answer.calls
    ]


def _said(answer: Answer, tokens: Sequence[TokenLogprob]) -> Sequence[TokenLogprob]:
    """An answer's last tokens without the one that the model ended it with, which is no text."""
    is_ended = answer.finish_reason == "stop" and answer.stop is None
    return tokens[:-1] if is_ended else tokens


def _logprobs(tokens: Any) -> dict[str, Any]:
    return {"content": [_token(token) for token in tokens], "refusal": None}


def _token(token: TokenLogprob) -> dict[str, Any]:
    top = [
        {"token": text, "bytes": list(data), "logprob": logprob}
        for text, data, logprob in token.top
    ]
    return {
        "token": token.token,
        "bytes": list(token.bytes),
        "logprob": token.logprob,
        "top_logprobs": top,
    }
