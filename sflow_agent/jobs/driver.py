"""What a watcher needs of a place where jobs run, and how it runs programs."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Protocol

from protocol.plugins import WorkState

ANSWER_WITHIN_S = 120.0
"""For submitting; a busy slurmctld takes a minute."""
_BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
QUOTED = 400


class JobError(Exception):
    """Something about a job could not be done, as a sentence."""


class Driver(Protocol):
    """One kind of place. Methods raise JobError."""

    every_s: float
    """Time between two looks."""

    def submit(self, key: str) -> str:
        """Submit the job under a key and return its id."""
        ...

    def find(self, key: str) -> str | None:
        """Return the id of a job that was submitted under a key and may not have ended; None if there is none."""
        ...

    def use(self, key: str) -> None:
        """Follow the job of a key that another watcher has submitted."""
        ...

    def poll(self, id: str) -> WorkState:
        """Return how far a job is. An error means that it is not known."""
        ...

    def cancel(self, id: str) -> None:
        """End a job, also one that has ended already."""
        ...

    def follow(self) -> bytes:
        """Return what a job has printed since the last call, if it prints where that can be read."""
        ...


class Ran(Protocol):
    """The outcome of a program."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(argv: Sequence[str], env: Mapping[str, str] | None = None, within_s: float = ANSWER_WITHIN_S) -> Ran:
    """Run a program that the task's stop does not end: what it does must be known. Raises: JobError."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)  # inherited by the program
    try:
        return subprocess.run(
            argv,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise JobError(f"{argv[0]} has not ended within {within_s:g} s") from None
    except OSError as error:
        raise JobError(f"{argv[0]} cannot be started: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def failure(what: str, ran: Ran) -> JobError:
    """Return the error of a program that has failed, with its last words."""
    said = " ".join((ran.stderr.strip() or ran.stdout.strip()).decode(errors="replace").split())[-QUOTED:]
    status = f"exit status {ran.returncode}" if ran.returncode >= 0 else f"signal {-ran.returncode}"
    return JobError(f"{what}: {said or status}")
