"""Fixtures: a Podman and an SSH server of our own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.operators.docker_service import DockerService, start_service
from tests.integration.operators.podman import CannotRunError, Podman, make_podman
from tests.integration.operators.sshd import NoServerError, Sshd, start_sshd
from tests.support import Run


@pytest.fixture(scope="session")
def session_podman() -> Iterator[Podman]:
    """One for all tests of a worker; skips where containers do not run."""
    # Podman's sockets must fit into 108 characters, which pytest's own directories do not leave.
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as directory:
        try:
            podman = make_podman(Path(directory))
        except CannotRunError as problem:
            pytest.skip(f"podman cannot run containers here: {problem}")
        yield podman
        podman("rm", "--all", "--force", "--time", "0")


@pytest.fixture
def podman(session_podman: Podman, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """The environment for a real Podman; no container may be left in it."""
    for name, value in session_podman.environment.items():
        monkeypatch.setenv(name, value)
    yield session_podman
    left = session_podman.containers()
    session_podman("rm", "--all", "--force", "--time", "0")
    assert not left


@pytest.fixture
def service(podman: Podman) -> Iterator[DockerService]:
    """A service for Docker's client, with the same containers as `podman`."""
    try:
        service = start_service(podman)
    except CannotRunError as problem:
        pytest.skip(f"no service for Docker's client: {problem}")
    yield service
    service.close()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server on a free port; skips where there is none."""
    directory = tmp_path / "sshd"
    directory.mkdir()
    try:
        server = start_sshd(directory)
    except NoServerError as problem:
        pytest.skip(f"no SSH server: {problem}")
    yield server
    server.close()


@pytest.fixture
def started() -> Iterator[list[Run]]:
    """Runs that are killed when the test ends."""
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.kill()
