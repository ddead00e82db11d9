"""What every way of fetching has in common: how it reports, fails and is cut off."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may take."""

    stall_s: float = 30.0
    """For a connection, an answer, and then for each next byte."""
    tries: int = 5
    """In a row without a new byte."""
    first_wait_s: float = 1.0
    """Between tries; doubled each time."""


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
    """How it ended, as a sentence without its subject, when it was no plain transfer."""
    is_warning: bool = False

    def sentence(self) -> str:
        """How it came, once it is done."""
        if self.outcome:
            return f"artifact {self.artifact} {self.outcome}"
        if self.total_bytes is None and self.received_bytes == 0:  # it was nearby, or nobody counted
            return f"artifact {self.artifact} from {self.uri} in {self.elapsed_s:.1f} s"
        new = self.received_bytes - self.resumed_bytes
        rate = f" ({bytes_text(new / self.elapsed_s)}/s)" if self.elapsed_s > 0 else ""
        size, kept = bytes_text(self.received_bytes), bytes_text(self.resumed_bytes)
        whole = f"{size}, {kept} of it kept from before" if self.resumed_bytes else size
        return f"artifact {self.artifact}: {whole} from {self.uri} in {self.elapsed_s:.1f} s{rate}"


def bytes_text(count: float) -> str:
    """`512 B`, `1.5 kB`, `2.3 GB`: decimal, as networks and disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def unchecked_mark(link: Path) -> Path:
    """Return the file beside a snapshot's link that says that the snapshot may be incomplete."""
    return link.with_name(f".{link.name}.unchecked")


class FetchError(Exception):
    """Why an artifact could not be fetched: a cause, and what to do."""

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(cause)
        # Some of it was said by a server: nothing of that may move a cursor.
        self.cause = "".join(letter if letter.isprintable() else " " for letter in cause)
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
