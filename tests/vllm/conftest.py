"""What the tests of `auto` share."""

import pytest

from pointsman.evaluation.demo import demo_samples
from support.vllm_traffic import Question, question_of


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    """The pocket's screens, three of them for no adapter."""
    with demo_samples() as samples:
        return [question_of(sample) for sample in samples]
