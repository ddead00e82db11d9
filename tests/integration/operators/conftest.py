"""Fixtures: a Podman and an SSH server of our own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.operators.podman import CannotRunError, Podman, make_podman


@pytest.fixture(scope="session")
def session_podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """One for all tests of a worker; skips where containers do not run."""
    directory: Path = tmp_path_factory.mktemp("podman")
    try:
        podman = make_podman(directory)
    except CannotRunError as problem:
        pytest.skip(f"podman cannot run containers here: {problem}")
    yield podman
    podman("rm", "--all", "--force", "--time", "0")


@pytest.fixture
def podman(session_podman: Podman, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """In the environment of whatever the test starts; nothing may be left in it."""
    for name, value in session_podman.environment.items():
        monkeypatch.setenv(name, value)
    yield session_podman
    left = session_podman.containers()
    session_podman("rm", "--all", "--force", "--time", "0")
    assert not left
