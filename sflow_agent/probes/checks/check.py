"""What every check has in common: it begins, it has one outcome, and it can be given up at any time."""

from collections.abc import Callable
from typing import Protocol

Done = Callable[[bool, str], None]
"""Told the outcome of a check: whether the condition holds, and what was seen or is missing."""


class ActiveCheck(Protocol):
    """One check under way. It calls its `Done` once, at the earliest from within `begin`."""

    @property
    def doing(self) -> str:
        """What it waits for, in words that say what has not happened."""
        ...

    def begin(self) -> None:
        """Starts it. Never blocks."""
        ...

    def close(self) -> None:
        """Gives everything back; its outcome is not wanted any more. May be called twice."""
        ...
