"""Schema: what responses are made of, as ``/openapi.json`` tells it.

They are made elsewhere; the tests compare real ones with it.
"""

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

_REFERENCE = "#/components/schemas/{model}"


class Answer(BaseModel):
    """What is sent: these fields and no others."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Named(Answer):
    """The object ``pointsman`` where a model was named."""

    adapter: str | None
    router_digest: str
    generation: str | None
    plan: str


class Decision(Named):
    """The object ``pointsman`` of a decision: the fields of a ``Route``, and digests."""

    label: int
    probabilities: dict[str, float]
    abstained: bool
    score: float
    candidates: list[str] | None
    refused: bool
    held: bool
    adapter_digests: dict[str, str] | None
    threshold: float


class Alternative(Answer):
    token: str
    bytes: list[int]
    logprob: float


class Token(Alternative):
    top_logprobs: list[Alternative]


class Logprobs(Answer):
    content: list[Token]
    refusal: None


class Function(Answer):
    name: str
    arguments: str = Field(description="JSON")


class Call(Answer):
    id: str
    type: Literal["function"]
    function: Function


class CallDelta(Call):
    index: int


class Message(Answer):
    role: Literal["assistant"]
    content: str
    refusal: None
    tool_calls: list[Call] = []


class Delta(Answer):
    role: Literal["assistant"] = "assistant"
    content: str = ""
    refusal: None = None
    tool_calls: list[CallDelta] = []


class Choice(Answer):
    index: int
    message: Message
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: Logprobs | None


class ChoiceDelta(Answer):
    index: int
    delta: Delta
    finish_reason: Literal["stop", "length", "tool_calls"] | None
    logprobs: Logprobs | None


class Usage(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Common(Answer):
    id: str
    created: int
    model: str
    system_fingerprint: str


class Completion(_Common):
    object: Literal["chat.completion"]
    choices: list[Choice]
    usage: Usage
    pointsman: Decision | Named


class Chunk(_Common):
    """An event of a stream. The first one has the decision, the last one the usage, if asked."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChoiceDelta]
    usage: Usage | None = None
    pointsman: Decision | Named | None = None


class Share(Answer):
    value: str
    probability: float


class Chosen(Answer):
    type: Literal["choice"]
    name: Any
    choice: str
    confidence: float
    probabilities: list[Share]


class Refusal(Answer):
    type: Literal["refusal"]
    name: Any


class InputDetails(Answer):
    cache_write_tokens: int
    cached_tokens: int


class OutputDetails(Answer):
    reasoning_tokens: int


class DecisionUsage(Answer):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Decisions(Answer):
    model: str
    answers: list[Chosen | Refusal]
    usage: DecisionUsage
    pointsman: Decision


class Routed(Answer):
    model: str
    pointsman: Decision


class Model(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    root: str
    parent: str | None
    digest: str = Field("", description="the generation of an adapter, or of the router")


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]


class RouterDigest(Answer):
    router_digest: str


class Ready(RouterDigest):
    plan: str


class Version(Answer):
    version: str


class Load(Answer):
    server_load: int = Field(description="answers that are being made or wait")


class Fault(Answer):
    message: str
    type: str
    param: str | None
    code: int


class Error(Answer):
    error: Fault


def sent(model: type[Answer]) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that answers with JSON."""
    return {200: {"model": model}}


def _reference(model: type[Answer]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


_refused = {
    "description": "An error in OpenAI's form",
    "content": {"application/json": {"schema": _reference(Error)}},
}
ERRORS: dict[int | str, dict[str, Any]] = {"4XX": _refused, "5XX": _refused}
_JSON = {
    "contentMediaType": "application/json",
    "contentSchema": {"anyOf": [_reference(Chunk), _reference(Error)]},
}
_DATA = {
    "type": "string",
    "anyOf": [_JSON, {"const": "[DONE]"}],
    "description": "an event, or `[DONE]` at the end",
}
_EVENT = {"type": "object", "properties": {"data": _DATA}, "required": ["data"]}
CHAT: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Completion,
        "content": {"text/event-stream": {"itemSchema": _EVENT}},
    }
}


def complete(app: FastAPI) -> None:
    """Adds what ``ERRORS`` and ``CHAT`` refer to, which is no body of a route of its own."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        found = generate()
        models = [(model, "serialization") for model in (Error, Chunk)]
        _, more = models_json_schema(models, ref_template=_REFERENCE)  # type: ignore[arg-type]
        found["components"]["schemas"] |= more["$defs"]
        return found

    app.openapi = openapi  # type: ignore[method-assign]
