"""Answers under load are those of the engine alone, since one thread owns the model."""

import asyncio
from pathlib import Path

import pytest

from support.traffic import Right, Tally, Traffic, expect, serve_canaries


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traffic") / "root"


@pytest.fixture(scope="module")
def right(root: Path) -> Right:
    return expect(root, questions=3)


def asked(root: Path, right: Right, module: str = "pointsman", patience: float = 600) -> Tally:
    with serve_canaries(root, module=module) as server:
        traffic = Traffic(server, right, 0, patience)
        asyncio.run(traffic.run(40, 12))
    return traffic.tally


def test_every_answer_is_that_of_its_adapter(root: Path, right: Right) -> None:
    tally = asked(root, right)
    assert tally.wrong == []
    assert sum(count for kind, count in tally.counts.items() if "guest" in kind) > 0


def test_with_two_owners_answers_are_wrong_or_never_come(root: Path, right: Right) -> None:
    assert asked(root, right, "support.two_owners", patience=40).wrong
