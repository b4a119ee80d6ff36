"""A real ``pointsman serve`` in a process of its own."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import openai
import uvicorn

from pointsman.engine.engine import Engine
from pointsman.server.app import make_app
from pointsman.server.options import ServerOptions
from pointsman.server.run import listen
from support.tiny import REPOSITORY

START_SECONDS = 120
CALENDAR = "Pick October 6, 2027 as the appointment date"
"""The instruction of the screen ``0014``, which is for the adapter ``calendar``"""


@dataclass(frozen=True)
class Server:
    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def client(self, key: str = "none", **options: Any) -> openai.OpenAI:
        """The stock client, which checks every answer against OpenAI's own types."""
        options = {"max_retries": 0, "_strict_response_validation": True, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **options)

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key="none",
            max_retries=0,
            _strict_response_validation=True,
            **options,
        )


def screen(name: str = "0014") -> bytes:
    """A screen of the pocket's demo, as a PNG."""
    return (files("pointsman.pocket") / f"screens/images/{name}.png").read_bytes()


def data_url(content: bytes, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(content).decode()


def user(text: str = CALENDAR, *screens: bytes) -> Any:
    """A user's message with its screens."""
    parts: list[Any] = [
        {"type": "image_url", "image_url": {"url": data_url(each)}} for each in screens
    ]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


@contextmanager
def serve(
    log: Path,
    *options: str,
    table: Mapping[str, Any] | None = None,
    settings: str = "",
    environment: Mapping[str, str] | None = None,
    router: Path | None = None,
    module: str = "pointsman",
) -> Iterator[Server]:
    """Starts the server of the pocket on a free port, and stops it at the end.

    Args:
        table: the options in ``[server]``.
        settings: lines at the top of the project file.
        router: in place of the pocket's.
        module: what is run in place of ``pointsman``.
    """
    words = [sys.executable, "-m", module, "serve", "--port", "0", *options]
    if table is not None or settings or router is not None:
        path = _project(log.with_suffix(".toml"), table or {}, settings, router)
        words += ["--config", str(path)]
    names = ("POINTSMAN_API_KEY", "POINTSMAN_ADMIN_KEY")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    paths = os.pathsep.join(
        [*(str(REPOSITORY / name) for name in ("src", "tests")), os.environ.get("PYTHONPATH", "")]
    )
    with log.open("wb") as file:
        process = subprocess.Popen(
            words,
            stderr=file,
            stdout=file,
            env={**clean, "PYTHONPATH": paths, "OMP_NUM_THREADS": "2", **(environment or {})},
        )
    try:
        yield Server(_ready(process, log), process, log)
    finally:
        if process.poll() is None:
            # What is broken on purpose may not end.
            process.send_signal(signal.SIGTERM if module == "pointsman" else signal.SIGKILL)
        process.wait(60)


@contextmanager
def serve_here(engine: Engine, **options: Any) -> Iterator[str]:
    """Serves an engine of this process, and closes it at the end; yields the address."""
    settings = ServerOptions(port=0, **options)
    place = listen(settings)
    app = make_app(engine, "0" * 64, settings)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=lambda: server.run(sockets=[place]))
    thread.start()
    until = time.monotonic() + START_SECONDS
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


def _project(path: Path, table: Mapping[str, Any], settings: str, router: Path | None) -> Path:
    """The pocket's project with further options."""
    pocket = REPOSITORY / "src/pointsman/pocket/model"
    text = (pocket / "pointsman.toml").read_text()
    text = re.sub(r'= "(base|router|adapters/[^"]*)"', rf'= "{pocket}/\1"', text)
    if router is not None:
        text = text.replace(f'"{pocket}/router"', f'"{router}"')
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    path.write_text("\n".join([settings + text, "[server]", *lines]) + "\n")
    return path


def _ready(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"ready: (http://\S+)", log.read_text()):
            return found.group(1)
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")
