"""Requests: the bodies of requests, as they are checked and as ``/openapi.json`` tells them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema


def _object(required: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(required)}


_TEXT = _object(
    ("type", "text"), type={"enum": ["text", "input_text", "output_text"]}, text={"type": "string"}
)
_URL = {"type": "string", "description": "a data URL, or an address of an allowed host"}
_IMAGE = _object(
    ("type", "image_url"),
    type={"enum": ["image_url", "input_image"]},
    image_url={"anyOf": [_URL, _object(("url",), url=_URL)]},
)
_CONTENT = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"anyOf": [_TEXT, _IMAGE]}},
        {"type": "null"},
    ]
}
_ROLES = ["system", "developer", "user", "assistant", "tool"]
Messages = Annotated[
    list[dict[str, Any]],
    Field(min_length=1),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "items": _object(("role",), role={"enum": _ROLES}, content=_CONTENT),
        }
    ),
]
"""A conversation; ``turns_of`` reads it, and says what is wrong in words of its own"""


class Request(BaseModel):
    """The fields that are read; any other is accepted and ignored."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class RouteRequest(Request):
    messages: Messages


class DecisionRequest(Request):
    """OpenAI's form; ``check_questions`` and ``messages_of`` read it."""

    model: str = Field(description="`auto`")
    input: str | Messages
    questions: list[dict[str, Any]] = Field(
        min_length=1, description="`type`: `choice`, and `choices` with an adapter as each `value`"
    )


class UnloadRequest(Request):
    lora_name: str = Field(min_length=1)
    expected_generation: str | None = Field(None, min_length=1)


class LoadRequest(UnloadRequest):
    lora_path: str = Field(min_length=1, description="below the server's `adapter_root`")
    load_inplace: bool | None = None


class RouterRequest(Request):
    router_path: str = Field(min_length=1, description="below the server's `adapter_root`")
