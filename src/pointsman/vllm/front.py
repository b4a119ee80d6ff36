"""Front: decisions in the API server, where they do not come with the request's own prefill."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from pointsman.errors import MismatchError, PointsmanError, RequestError
from pointsman.labels import ROUTED
from pointsman.models.features import probe_prompts
from pointsman.protocol.conversations import (
    image_part,
    seen_messages,
    shows_image,
    text_prompt,
)
from pointsman.protocol.decisions import Decided
from pointsman.protocol.requests import is_background, session_of
from pointsman.protocol.shown import described
from pointsman.routing.router import PROBE_TOLERANCE
from pointsman.routing.text_router import TextRouter
from pointsman.vllm.launch import prepare
from pointsman.vllm.selection import BACKGROUND, PROBE, SESSION
from pointsman.vllm.settings import Settings
from pointsman.vllm.transport import collected

_EXTRA = "vllm_xargs"
"""Options of a request that reach vLLM's worker as they are"""
_SHARED = (_EXTRA, "mm_processor_kwargs")
"""Options of a request that its separate decision must have as well"""


class VllmError(Exception):
    """An error answer of vLLM's."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(str(body))
        self.status, self.body = status, body


class Front:
    """Routes messages: by a request of its own to vLLM's engine, or by the text router.

    Args:
        state: vLLM's application state.
    """

    def __init__(self, settings: Settings, state: Any) -> None:
        self.settings, self._state = settings, state
        self._text: TextRouter | None = None
        if not settings.reads_with_base:
            self._text = TextRouter.from_project(settings.project, settings.where)

    @property
    def base_name(self) -> str:
        """The first name under which vLLM serves the base."""
        return str(self._state.openai_serving_models.base_model_paths[0].name)

    @property
    def digest(self) -> str:
        """Of the sealed router."""
        return self.settings.router_digest

    @property
    def plan(self) -> str:
        return prepare(self.settings).plan.name

    def described(self, decision: Mapping[str, Any]) -> dict[str, Any]:
        """A decision as responses show it, with the digests of the files behind it."""
        shown = {name: value for name, value in decision.items() if name != "moved"}
        return described(shown, self.digest, self.settings.router.adapter_digests)

    def marked(self, request: dict[str, Any], session_header: str | None) -> dict[str, Any]:
        """A request with what the worker must know: its session, or that it is to abstain.

        Without either, it is the same object.

        Raises:
            RequestError: its session has no name.
        """
        session = session_of(session_header, request)
        is_none = is_background(
            session,
            has_images=shows_image(request),
            reads_images=self.settings.reads_with_base,
            route_text=self.settings.project.route_text,
        )
        marks = {SESSION: session} if session else {BACKGROUND: 1} if is_none else {}
        given = request.get(_EXTRA) or {}
        if not marks or not isinstance(given, dict):  # otherwise vLLM says what is wrong
            return request
        return {**request, _EXTRA: {**given, **marks}}

    async def decide(
        self, messages: Sequence[Mapping[str, Any]], request: Mapping[str, Any]
    ) -> Decided:
        """The decision on messages in the form of chat completions; nothing is generated.

        Args:
            request: the whole request, whose session and image options hold for the decision too.

        Raises:
            RequestError: the router cannot read them.
            VllmError: vLLM refuses them.
        """
        if self._text is not None:
            return await self._decide_by_text(messages)
        options = {key: request[key] for key in _SHARED if request.get(key) is not None}
        seen = seen_messages(messages, self.settings.router.recipe.history)
        return await self._ask(seen, **options)

    async def _decide_by_text(self, messages: Sequence[Mapping[str, Any]]) -> Decided:
        assert self._text is not None
        try:
            [route] = await asyncio.to_thread(self._text.route_batch, [text_prompt(messages)])
        except PointsmanError as error:
            raise RequestError(str(error)) from None
        return Decided(asdict(route), 0)

    async def _ask(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Decided:
        """One token of ``auto``: its prefill routes."""
        try:
            request = ChatCompletionRequest(
                model=ROUTED, messages=list(messages), max_tokens=1, temperature=0, **options
            )
        except ValueError as fault:
            raise RequestError(f"the messages cannot be read: {fault}".partition("\n")[0]) from None
        with collected() as decisions:
            response = await self._state.openai_serving_chat.create_chat_completion(request, None)
        if (error := getattr(response, "error", None)) is not None:
            raise VllmError(error.code, response.model_dump())
        if decisions.first is None:
            raise RuntimeError("pointsman: vLLM answered without a decision")
        return Decided(decisions.first, response.usage.prompt_tokens)

    async def check_base(self) -> None:
        """Replays the router's probes in vLLM. Raises ``MismatchError`` if features differ."""
        if self._text is not None:
            return  # it replayed them when it was loaded
        for number, prompt in enumerate(probe_prompts()):
            [turn] = prompt.turns
            content = [image_part(prompt.images[0]), {"type": "text", "text": turn.text}]
            messages = [{"role": "user", "content": content}]
            moved = (await self._ask(messages, **{_EXTRA: {PROBE: number}})).decision["moved"]
            if not moved <= PROBE_TOLERANCE:
                raise MismatchError(
                    f"vLLM computes features that differ by {moved:.1%} from those that the router "
                    "was trained on; give vLLM the same --dtype and no --quantization, or "
                    "preprocess and train again"
                )
