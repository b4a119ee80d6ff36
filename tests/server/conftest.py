"""What the server's tests share."""

from collections.abc import Iterator

import openai
import pytest

from support.server import Server, serve


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The pocket, served without a project file."""
    with serve(tmp_path_factory.mktemp("server") / "log") as found:
        yield found


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with server.client() as found:
        yield found
