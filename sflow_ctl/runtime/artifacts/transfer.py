"""What every way of fetching has in common: how it reports, fails and is cut off."""

import threading
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Progress:
    """How far one artifact is. Written by the thread that fetches it, read by whoever shows it."""

    artifact: str
    uri: str
    received_bytes: int = 0
    """All that is here, what an earlier run left included."""
    resumed_bytes: int = 0
    """What of it was here before."""
    total_bytes: int | None = None
    note: str = ""
    """What goes on when it is no transfer: "waiting 2 s: ..."."""
    elapsed_s: float = 0.0
    is_done: bool = False
    outcome: str = ""
    """How it ended, as a sentence without its subject."""
    is_warning: bool = False


class FetchError(Exception):
    """Why an artifact could not be fetched: a cause, and what to do."""

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint


class TransientError(FetchError):
    """One that may be gone when it is tried again."""

    def __init__(self, cause: str, hint: str, wait_s: float = 0.0) -> None:
        super().__init__(cause, hint)
        self.wait_s = wait_s
        """What the other side has asked for."""


class Cut(Exception):  # noqa: N818 - no error: somebody asked for it
    """The transfer was cut off."""


class Transfer(Protocol):
    """One artifact on its way."""

    progress: Progress

    def run(self, stop: threading.Event) -> None:
        """Returns when the artifact is where it belongs. Raises: FetchError, Cut, OSError."""

    def cut(self) -> None:
        """From another thread, after `stop` was set: lets `run` notice at once."""
