"""Calls of tools, as Qwen's chat template renders them in an answer."""

import json
from collections.abc import Mapping
from typing import Any

from pointsman.dialects.values import decoded, short
from pointsman.errors import SampleError

_KEYS = {"name", "arguments"}
_AROUND = {"id", "type", "index", "function"}


def calls_text(value: Any) -> str:
    """One or more calls as text, one ``<tool_call>`` element each.

    Args:
        value: a call or a list of calls, in OpenAI's form (``{"function": {"name", "arguments"}}``)
            or as ``{"name", "arguments"}``; arguments and the whole may be JSON text. Text that
            has ``<tool_call>`` elements already comes back unchanged.

    Raises:
        SampleError: a call has no name, arguments that are no object, or something else.
    """
    if isinstance(value, str) and "<tool_call>" in value:
        return value
    calls = decoded(value)
    return "\n".join(map(_call_text, calls if isinstance(calls, list) else [calls]))


def _call_text(call: Any) -> str:
    call = decoded(call)
    if not isinstance(call, Mapping):
        raise SampleError(f"a call is {short(call)}; give an object with name and arguments")
    function = call.get("function", call)
    if not isinstance(function, Mapping) or call.get("type", "function") != "function":
        raise SampleError(f"a call is {short(call)}; only calls of functions can be read")
    if unknown := {*call, *function} - _KEYS - _AROUND:
        raise SampleError(f"a call has {min(unknown)!r}; known are name and arguments")
    name, arguments = function.get("name"), decoded(function.get("arguments") or {})
    if not isinstance(name, str) or not name:
        raise SampleError(f"a call has no name ({short(dict(function))})")
    if not isinstance(arguments, Mapping):
        raise SampleError(f"the arguments of {name} are no object ({short(arguments)})")
    try:
        inner = json.dumps(
            {"name": name, "arguments": arguments}, ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise SampleError(f"the arguments of {name} are no JSON ({error})") from None
    return f"<tool_call>\n{inner}\n</tool_call>"
