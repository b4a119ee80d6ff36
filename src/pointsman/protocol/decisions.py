"""Decisions: OpenAI's ``POST /v1/decisions`` for questions that choose among adapters.

Source of the form: openai 3.57, ``types/decision_create_params.py`` and ``types/decision.py``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pointsman.errors import RequestError
from pointsman.labels import ROUTED, LabelMap


class Decided(NamedTuple):
    """A decision, and the tokens that were read for it."""

    decision: dict[str, Any]
    tokens: int


def check_questions(body: Any, labels: LabelMap) -> None:
    """Raises ``RequestError`` unless every question is a choice among adapters."""
    if not isinstance(body, dict) or body.get("model") != ROUTED:
        asked = body.get("model") if isinstance(body, dict) else body
        raise RequestError(f"model {asked!r} makes no decisions; give {ROUTED!r}")
    questions = body.get("questions")
    if not isinstance(questions, list) or not questions:
        raise RequestError("questions: give a list of at least one question")
    for question in questions:
        if not isinstance(question, dict) or question.get("type") != "choice":
            raise RequestError('questions: the router answers questions of the type "choice"')
        values = _values(question)
        if unknown := [value for value in values if value not in labels.names]:
            raise RequestError(
                f"questions: choice {unknown[0]!r} is none of the adapters {labels}; give those"
            )
        if len({*values}) < 2:
            raise RequestError(f"questions: the choices are {values}; give two or more adapters")


def _values(question: Mapping[str, Any]) -> list[Any]:
    choices = question.get("choices")
    if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
        raise RequestError('questions: give choices as a list of {"value": "an adapter"}')
    return [one.get("value") for one in choices]


def messages_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The input as messages of chat completions. Raises ``RequestError`` if it is neither."""
    given = body.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise RequestError("input: give a string or a list of messages")
    if others := [one for one in given if one.get("type", "message") != "message"]:
        raise RequestError(f"input: the router reads messages, not {others[0].get('type')!r}")
    return given


def answers(body: Mapping[str, Any], decided: Decided) -> dict[str, Any]:
    """The answer to each question: a choice, or a refusal if the router abstained."""
    return {
        "model": ROUTED,
        "answers": [_answer(question, decided.decision) for question in body["questions"]],
        "usage": {
            "input_tokens": decided.tokens,
            "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": decided.tokens,
        },
    }


def _answer(question: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, Any]:
    name = question.get("name")
    if decision["abstained"]:
        return {"type": "refusal", "name": name}
    found = {value: decision["probabilities"][value] for value in _values(question)}
    total = sum(found.values()) or 1.0
    shares = {value: probability / total for value, probability in found.items()}
    choice = max(shares, key=lambda value: shares[value])
    return {
        "type": "choice",
        "name": name,
        "choice": choice,
        "confidence": shares[choice],
        "probabilities": [{"value": v, "probability": p} for v, p in shares.items()],
    }
