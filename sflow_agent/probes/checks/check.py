"""The interface of all active checks: begin, report one outcome, close at any time."""

from collections.abc import Callable
from typing import Protocol

Done = Callable[[bool, str], None]
"""Called with the outcome of a check: whether it holds, and what was seen or is missing."""


class ActiveCheck(Protocol):
    """One running check. It calls its `Done` once, at the earliest from within `begin`."""

    @property
    def doing(self) -> str:
        """What it waits for, as a sentence about what has not happened."""
        ...

    def begin(self) -> None:
        """Start the check. Never blocks."""
        ...

    def close(self) -> None:
        """Release everything; the outcome is no longer wanted. May be called twice."""
        ...
