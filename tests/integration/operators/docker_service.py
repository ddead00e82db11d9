"""A service for Docker's own client: Podman's, on a socket, and on request behind an SSH server."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.operators.podman import CannotRunError, Podman
from tests.support import wait_until


@dataclass
class DockerService:
    """A running service, with containers of its own."""

    podman: Podman
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """Return what `--host` of Docker and `--url` of Podman reach it by."""
        return f"unix://{self.podman.directory}/api"

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def start_service(podman: Podman) -> DockerService:
    """Return a service for the containers of this Podman. Raises: CannotRunError."""
    socket = podman.directory / "api"
    socket.unlink(missing_ok=True)
    with (podman.directory / "service.log").open("wb") as log:
        process = subprocess.Popen(
            ("podman", "system", "service", "--time=0", f"unix://{socket}"),
            env={**os.environ, **podman.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    service = DockerService(podman, process)
    wait_until(lambda: socket.exists() or process.poll() is not None, "the service listens")
    if process.poll() is not None:
        raise CannotRunError((podman.directory / "service.log").read_text().strip())
    return service


def program_directory(directory: Path, **scripts: str) -> str:
    """Return a PATH that begins with these programs."""
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    for name, text in scripts.items():
        program = programs / name
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def needs_docker() -> pytest.MarkDecorator:
    """Skip without Docker's client; it needs no service of its own on this machine."""
    return pytest.mark.skipif(shutil.which("docker") is None, reason="Docker's client is not installed")
