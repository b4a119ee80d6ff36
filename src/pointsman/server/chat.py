"""Chat: what a request of ``POST /v1/chat/completions`` asks for.

Stock clients send many more fields than change an answer. What we do not know is ignored, and the
response says so; what would change the answer silently is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from pointsman.conversation import Prompt, Turn
from pointsman.engine.sampling import Sampling
from pointsman.errors import RequestError
from pointsman.models.base import Base
from pointsman.protocol.conversations import turns_of
from pointsman.server.options import ServerOptions
from pointsman.server.pictures import read_pictures
from pointsman.server.requests import Messages, Request

_Number = float | None
_Whole = int | None
_REFUSED = (
    *("logit_bias", "audio", "functions", "function_call", "best_of"),
    *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("regex", "ebnf", "json_schema", "structural_tag", "stop_regex", "custom_logit_processor"),
    *("use_beam_search", "continue_final_message"),
)
"""They would change the answer, and nothing here implements them."""
_SEEDS = 2**63
"""Seeds are whole numbers of 64 bits, with a sign"""
_MARK = "POINTSMAN"


class StreamOptions(Request):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class ChatRequest(Request):
    model: str = Field(description="`auto`, an adapter, `base:adapter`, or the base")
    messages: Messages
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: _Whole = Field(None, ge=1)
    max_tokens: _Whole = Field(None, ge=1)
    max_completion_tokens: _Whole = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: _Whole = Field(None, ge=-_SEEDS, lt=_SEEDS)
    temperature: _Number = Field(None, ge=0, le=100)
    top_p: _Number = Field(None, ge=0, le=1)
    top_k: _Whole = Field(None, ge=-1)
    min_p: _Number = Field(None, ge=0, le=1)
    repetition_penalty: _Number = Field(None, gt=0)
    frequency_penalty: _Number = Field(None, ge=-2, le=2)
    presence_penalty: _Number = Field(None, ge=-2, le=2)
    logprobs: bool | None = None
    top_logprobs: _Whole = Field(None, ge=0, le=20)
    min_tokens: _Whole = Field(None, ge=0)
    ignore_eos: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    session_id: str | None = None
    prompt_cache_key: str | None = None


@dataclass(frozen=True)
class Asked:
    """A request, ready for the engine."""

    model: str
    prompt: Prompt
    """What is answered"""
    routed: Prompt | None
    """What the router reads, if it is not the prompt"""
    pictures: tuple[bytes, ...]
    """The files of the prompt's images"""
    samplings: tuple[Sampling, ...]
    """One for each answer"""
    max_new_tokens: int | None
    session: str | None
    is_stream: bool
    with_usage: bool
    """Whether a stream ends with the usage"""
    with_usage_so_far: bool
    """Whether each of its events has it too"""
    with_tools: bool
    """Whether calls in the text are also given as calls"""
    ignored: tuple[str, ...]


def read_chat(
    request: ChatRequest, options: ServerOptions, base: Base, session: str | None
) -> Asked:
    """Reads a request and its pictures, which takes a while: not in the event loop.

    Args:
        session: that the request belongs to, if any.

    Raises:
        RequestError, SampleError: it cannot be answered as it was made.
    """
    extra = request.model_extra or {}
    _check_refused(request, extra)
    turns, parts = turns_of(request.messages)
    pictures, images = read_pictures(parts, options)
    shown = _with_tools(base, turns, request.tools) if _takes_tools(request) else None
    samples = request.n or 1
    if samples > options.max_samples:
        raise RequestError(f"n is {samples}; give at most {options.max_samples}")
    ignored = [name for name, value in extra.items() if value is not None]
    wanted = request.stream_options or StreamOptions()
    ignored += ["tools"] if _takes_tools(request) and shown is None else []
    return Asked(
        model=request.model,
        prompt=Prompt(tuple(shown or turns), images),
        routed=None if shown is None else Prompt(tuple(turns), images),
        pictures=pictures,
        samplings=tuple(_sampling(request, number) for number in range(samples)),
        max_new_tokens=request.max_completion_tokens or request.max_tokens,
        session=session,
        is_stream=bool(request.stream),
        with_usage=bool(wanted.include_usage),
        with_usage_so_far=bool(wanted.include_usage and wanted.continuous_usage_stats),
        with_tools=_takes_tools(request),
        ignored=tuple(ignored),
    )


def _takes_tools(request: ChatRequest) -> bool:
    return bool(request.tools) and request.tool_choice != "none"


def _check_refused(request: ChatRequest, extra: dict[str, Any]) -> None:
    for name in _REFUSED:
        if extra.get(name):
            raise RequestError(f"{name}: not supported, and it would change the answer; leave out")
    if request.tools and request.tool_choice not in (None, "auto", "none"):
        raise RequestError("tool_choice: calls cannot be forced; give auto or none")
    kind = (request.response_format or {}).get("type", "text")
    if kind != "text":
        raise RequestError(f"response_format: {kind!r} cannot be enforced; give text")
    if request.modalities and set(request.modalities) != {"text"}:
        raise RequestError("modalities: answers are text; give text alone")
    if request.stream_options is not None and not request.stream:
        raise RequestError("stream_options: only allowed with stream")
    if request.top_logprobs and not request.logprobs:
        raise RequestError("top_logprobs: only allowed with logprobs")


def _sampling(request: ChatRequest, number: int) -> Sampling:
    """The sampling of one of a request's answers; each has a seed of its own."""
    stop = request.stop or ()
    given: dict[str, Any] = {
        "temperature": request.temperature,
        "top_p": request.top_p or None,  # 0, as some clients send it, is greedy
        "top_k": max(0, request.top_k or 0),
        "min_p": request.min_p,
        "repetition_penalty": request.repetition_penalty,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "min_tokens": request.min_tokens,
        "ignore_eos": request.ignore_eos,
        "stop": (stop,) if isinstance(stop, str) else tuple(text for text in stop if text),
        "logprobs": (request.top_logprobs or 0) if request.logprobs else None,
        "seed": None if request.seed is None else (request.seed + number) % _SEEDS,
    }
    if request.top_p == 0:
        given["temperature"] = 0.0
    return Sampling(**{name: value for name, value in given.items() if value is not None})


def _with_tools(
    base: Base, turns: Sequence[Turn], tools: Sequence[dict[str, Any]] | None
) -> list[Turn] | None:
    """Turns with the tools in the system turn, as the base's chat template puts them there.

    None: the template shows no tools.
    """
    first = turns[0] if turns[0].role == "system" else None
    if first is not None and first.places:
        raise RequestError("tools: a system message with an image cannot hold them")
    prompts = base.prompts
    before, _, after = prompts.render((Turn("system", (_MARK,)),), answer_next=False).partition(
        _MARK
    )
    message = {"role": "system", "content": first.text if first else ""}
    try:
        whole = prompts.tokenizer.apply_chat_template(
            [message], tools=list(tools or ()), chat_template=prompts.template, tokenize=False
        )
    except Exception as error:  # a template may raise anything on tools that it cannot show
        raise RequestError(f"tools: the chat template cannot show them ({error})") from None
    text = str(whole).removeprefix(before).removesuffix(after)
    if text == message["content"]:
        return None
    return [Turn("system", (text,)), *(turns if first is None else turns[1:])]
