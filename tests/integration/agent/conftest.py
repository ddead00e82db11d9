"""Fixtures for tests with one real agent."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.agent.fake_controller import FakeController


@pytest.fixture
def make_controller(tmp_path: Path) -> Iterator[Callable[..., FakeController]]:
    """Controllers that end all remaining processes of their agents when the test ends."""
    made: list[FakeController] = []

    def make(**arguments: float) -> FakeController:
        made.append(FakeController(tmp_path / f"run-{len(made)}", **arguments))
        return made[-1]

    yield make
    for controller in made:
        controller.close()


@pytest.fixture
def controller(make_controller: Callable[..., FakeController]) -> FakeController:
    """A controller with an agent in session."""
    return make_controller().start().welcome()
