"""Shown: a decision as clients see it, in headers and in the object ``pointsman``."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pointsman.labels import BASE
from pointsman.routing.route import abstained

OBJECT = "pointsman"
"""The key of a response's decision"""
REFUSED = 422
"""Status of a request on which the router abstained, with ``fallback = "error"``"""
Decision = Mapping[str, Any]
"""The fields of a ``Route``"""


def described(decision: Decision, router_digest: str, sealed: Mapping[str, Any]) -> dict[str, Any]:
    """A decision with the digests of the files behind it.

    Args:
        router_digest: of the sealed router.
        sealed: digests of every sealed adapter's files.
    """
    digests = sealed.get(str(decision["adapter"]))
    return {**decision, "router_digest": router_digest, "adapter_digests": digests}


def headers(decision: Decision, router_digest: str, plan: str) -> dict[str, str]:
    """The headers of every response with a decision."""
    values = {
        "label": decision["label"],
        "confidence": f"{max(decision['probabilities'].values()):.4f}",
        "abstained": str(decision["abstained"]).lower(),
    }
    return named_headers(answering(decision), router_digest, plan) | as_headers(values)


def named_headers(adapter: str, router_digest: str, plan: str) -> dict[str, str]:
    """The headers of every response, with a decision or where a model was named."""
    return as_headers({"adapter": adapter, "plan": plan, "router": router_digest})


def debug_headers(decision: Decision) -> dict[str, str]:
    """Those that are added where a request has the header ``x-pointsman-debug``."""
    values = {name: decision[name] for name in ("score", "probabilities", "candidates", "held")}
    return as_headers({name: json.dumps(value) for name, value in values.items()})


def as_headers(values: Mapping[str, Any]) -> dict[str, str]:
    """Values under our headers' names, without spaces at the ends, which HTTP does not allow."""
    return {f"x-pointsman-{name}": str(value).strip() for name, value in values.items()}


def answering(decision: Decision) -> str:
    """Who answers: an adapter, ``base``, or ``none``."""
    return "none" if decision["refused"] else decision["adapter"] or BASE


def error(
    message: str, kind: str = "BadRequestError", status: int = 400, param: str | None = None
) -> dict[str, Any]:
    """An error in the form of OpenAI's and vLLM's."""
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def refusal(decision: Decision, shown: Mapping[str, Any]) -> dict[str, Any]:
    """The body where the router abstained and nothing else may answer."""
    return error(abstained(decision["score"]), "AbstainedError", REFUSED) | {OBJECT: shown}


def generation(digests: Mapping[str, str]) -> str:
    """One short digest of an adapter's files, from their digests by name."""
    text = json.dumps(digests, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
