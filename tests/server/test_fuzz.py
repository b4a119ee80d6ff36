"""Random and malformed requests: none fails, and each response is as the schema says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fuzz import KEYS, OPTIONS, fuzz, send_pictures
from support.server import Server, serve

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log: Path = tmp_path_factory.mktemp("fuzz") / "log"
    with serve(log, table={**OPTIONS, "adapter_root": str(log.parent)}, environment=KEYS) as it:
        yield it


def test_requests_made_of_the_schema(server: Server) -> None:
    found = fuzz(server.url, 120, 7)
    assert found.faults == []
    assert found.statuses.total() > 90
    statuses = {name.rpartition(" ")[2] for name in found.statuses}
    assert {"200", "400", "404"} <= statuses
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text()


def test_malformed_pictures(server: Server) -> None:
    found = send_pictures(server.url, 100, 7)
    assert found.faults == []
    assert found.statuses.total() == 100
    assert {name.rpartition(" ")[2] for name in found.statuses} == {"200", "400"}
    assert "Traceback" not in server.log.read_text()
