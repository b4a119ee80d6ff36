"""Random requests, made of the live schema, and bad pictures: what a server answers to them."""

import json
import random
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.bad_pictures import bad_pictures
from support.server import CALENDAR, data_url, screen, user

KEYS = {"POINTSMAN_API_KEY": "use", "POINTSMAN_ADMIN_KEY": "admin"}
OPTIONS = {"max_new_tokens": 4, "max_samples": 2, "deadline": 60, "max_waiting": 64}
OPTIONS |= {"slots": 4, "image_cache_mb": 16}
"""Of the server: short answers, and caches that are soon full"""
MODELS = ("auto", "base", "calendar", "claim-window", "base:calendar", "guest")
PATHS = ("calendar", "router", ".", "..", "/etc", "calendar/..", "nothing", "")
"""What adapters and routers are loaded from; ``calendar`` and ``router`` are there"""
CHOICES = [{"value": name} for name in ("calendar", "claim-window", "provider-select")]
TIMEOUT = 120
_CHECKS: list[Callable[..., Any]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@dataclass
class Tally:
    statuses: Counter[str] = field(default_factory=Counter)
    """By place and status"""
    faults: list[str] = field(default_factory=list)
    """What must not be"""

    def __iadd__(self, other: "Tally") -> "Tally":
        self.statuses += other.statuses
        self.faults += other.faults
        return self


def fuzz(url: str, count: int, number: int) -> Tally:
    """Sends about ``count`` requests, half of them as the schema says, half of them not.

    Args:
        number: the seed.
    """
    load_all_checks()
    schema = schemathesis.openapi.from_url(
        f"{url}/openapi.json", headers={"authorization": "Bearer use"}
    )
    tally, rng = Tally(), random.Random(number)
    operations = [found.ok() for found in schema.get_all_operations()]
    wide = [each for each in operations if each.method == "post"]
    share = max(1, (count - len(operations)) // (2 * len(wide)))
    with requests.Session() as session:
        for operation in operations:
            for mode in GenerationMode:
                _sent(operation, mode, share, rng, session, tally)
    return tally


def _sent(
    operation: Any, mode: Any, count: int, rng: random.Random, session: Any, tally: Tally
) -> None:
    @seed(rng.getrandbits(32))
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        if rng.random() < 0.7:
            case.body = _nearer(case.body, case.path, rng)
        case.body = _shorter(case.body, rng)
        headers = {"authorization": f"Bearer {'admin' if rng.random() < 0.97 else 'wrong'}"}
        try:
            response = case.call(session=session, headers=headers, timeout=TIMEOUT)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader):
            return  # the client's library would not send it
        except requests.RequestException as fault:
            tally.faults.append(f"{operation.label}: no answer: {fault!r}"[:500])
            return
        tally.statuses[f"{operation.label} {response.status_code}"] += 1
        try:
            case.validate_response(response, checks=_CHECKS)
        except BaseException as fault:  # a group of all that is wrong
            tally.faults.append(f"{operation.label} {response.status_code}: {fault}"[:2000])

    try:
        send()
    except Unsatisfiable:  # where every request is as the schema says
        return


def _nearer(body: Any, path: str, rng: random.Random) -> Any:
    """A random body with some fields that let it come further."""
    if not isinstance(body, dict):
        return body
    body = dict(body)
    if "lora" in path or "router" in path:
        body |= {"lora_name": "guest", "lora_path": rng.choice(PATHS)}
        return body | {"router_path": rng.choice(PATHS)}
    if rng.random() < 0.8:
        body["model"] = rng.choice(MODELS) if "chat" in path else "auto"
    if path.endswith("decisions") and rng.random() < 0.7:
        name = rng.choice((None, "which", body.get("input")))
        body["questions"] = [{"type": "choice", "name": name, "choices": CHOICES}]
    place = "input" if path.endswith("decisions") else "messages"
    messages = body.get(place)
    if isinstance(messages, list) and rng.random() < 0.7:
        kept = [_with_picture(each, rng) for each in messages]
        screens = rng.choice(((), (screen(),)))
        body[place] = [*kept, user(CALENDAR, *screens)]
    for name in ("stream_options", "response_format", "modalities", "tool_choice", "tools"):
        if rng.random() < 0.6:
            body.pop(name, None)  # of most random values of these, nothing else is looked at
    return body


def _shorter(body: Any, rng: random.Random) -> Any:
    """A body that asks for few tokens: thousands would take hours, or run into the deadline."""
    if not isinstance(body, dict):
        return body
    names = ("max_tokens", "max_completion_tokens", "min_tokens")
    long = [name for name in names if isinstance(body.get(name), int | float) and body[name] > 8]
    return body | {name: rng.randint(1, 8) for name in long}


def _with_picture(message: Any, rng: random.Random) -> Any:
    """A message whose images have files."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    url = data_url(screen()) if rng.random() < 0.5 else next(bad_pictures(rng.getrandbits(32)))[1]
    parts = [
        {**part, "image_url": {"url": url}}
        if isinstance(part, dict) and "image_url" in part
        else part
        for part in content
    ]
    return {**message, "content": parts}


def send_pictures(url: str, count: int, number: int) -> Tally:
    """Sends malformed pictures, most to be routed, some to be answered."""
    tally, rng = Tally(), random.Random(number)
    for name, picture in islice(bad_pictures(number), count):
        part = {"type": "image_url", "image_url": {"url": picture}}
        messages = [{"role": "user", "content": [part, {"type": "text", "text": CALENDAR}]}]
        path, body = "/v1/route", {"messages": messages}
        if rng.random() < 0.2:
            path, body = "/v1/chat/completions", {**body, "model": "auto", "max_tokens": 1}
        kind = name.partition(" ")[0]
        try:
            status, answer = _post(url + path, body)
        except (OSError, ValueError) as fault:
            tally.faults.append(f"{name}: no answer: {fault!r}"[:500])
            continue
        tally.statuses[f"{kind} {status}"] += 1
        if not (status == 200 or (400 <= status < 500 and set(answer) == {"error"})):
            tally.faults.append(f"{name}: {status} {answer}: {picture[:3000]}")
    return tally


def _post(url: str, body: Any) -> tuple[int, Any]:
    headers = {"content-type": "application/json", "authorization": "Bearer use"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
