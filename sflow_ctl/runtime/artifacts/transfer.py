"""The common interface of all transfers: progress, errors, cancellation."""

import threading
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from protocol.text.ansi import printable_line


class Patience(Struct, frozen=True):
    """How long a server may take."""

    stall_s: float = 30.0
    """The limit for a connection, for an answer, and for each next byte."""
    tries: int = 5
    """Tries in a row without a new byte."""
    first_wait_s: float = 1.0
    """The delay before the second try; doubled for each further one."""


class Progress(Struct):
    """The progress of one artifact. Written by the thread that fetches it, read by the display."""

    artifact: str
    uri: str
    received_bytes: int = 0
    """All bytes that are here, including those of an earlier run."""
    resumed_bytes: int = 0
    """The bytes that an earlier run left."""
    total_bytes: int | None = None
    note: str = ""
    """The current activity when nothing is transferred: "waiting 2 s: ..."."""
    elapsed_s: float = 0.0
    is_done: bool = False
    outcome: str = ""
    """How it ended, as a sentence without its subject, if it was not a plain transfer."""
    is_warning: bool = False

    def sentence(self) -> str:
        """Return how it arrived, once it is done."""
        if self.outcome:
            return f"artifact {self.artifact} {self.outcome}"
        if self.total_bytes is None and self.received_bytes == 0:  # copied locally, or not counted
            return f"artifact {self.artifact} from {self.uri} in {self.elapsed_s:.1f} s"
        new = self.received_bytes - self.resumed_bytes
        rate = f" ({bytes_text(new / self.elapsed_s)}/s)" if self.elapsed_s > 0 else ""
        size, kept = bytes_text(self.received_bytes), bytes_text(self.resumed_bytes)
        whole = f"{size}, {kept} of it kept from before" if self.resumed_bytes else size
        return f"artifact {self.artifact}: {whole} from {self.uri} in {self.elapsed_s:.1f} s{rate}"


def bytes_text(count: float) -> str:
    """Return `512 B`, `1.5 kB`, `2.3 GB`: decimal, as networks and disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def unchecked_mark(link: Path) -> Path:
    """Return the file beside a snapshot's link that says that the snapshot may be incomplete."""
    return link.with_name(f".{link.name}.unchecked")


class FetchError(Exception):
    """The reason why an artifact could not be fetched, and a remedy."""

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(cause)
        self.cause = printable_line(cause)  # some of it was said by a server
        self.hint = hint


class TransientFetchError(FetchError):
    """A failure that may not happen again when it is retried."""

    def __init__(self, cause: str, hint: str, wait_s: float = 0.0) -> None:
        super().__init__(cause, hint)
        self.wait_s = wait_s
        """The delay that the server asked for."""


class Cut(Exception):  # noqa: N818 - not an error: it was requested
    """The transfer was cancelled."""


class Transfer(Protocol):
    """The transfer of one artifact."""

    progress: Progress

    def run(self, stop: threading.Event) -> None:
        """Return when the artifact is in its place. Raises: FetchError, Cut, OSError."""

    def cut(self) -> None:
        """Make `run` notice at once that `stop` was set. Called from another thread."""
