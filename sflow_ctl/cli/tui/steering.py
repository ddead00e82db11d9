"""What the full-screen view can change of a run. The commands `stop`, `restart` and so on do the same."""

from typing import Literal, Protocol

from protocol.errors import UsageError

Verb = Literal["stop", "restart", "signal", "scale", "pause"]


class Steering(Protocol):
    """Changes a run."""

    def act(self, verb: Verb, tasks: tuple[str, ...], argument: str) -> str:
        """Do it and return what was done; no tasks mean the run. Raises: FleetError."""
        ...


class NoSteering:
    """Of a run that cannot be changed from here."""

    def __init__(self, why: str) -> None:
        self._why = why

    def act(self, verb: Verb, tasks: tuple[str, ...], argument: str) -> str:  # noqa: ARG002 - nothing can be done
        """Raise: UsageError."""
        raise UsageError.of("cannot-change", f"cannot {verb}: {self._why}")
