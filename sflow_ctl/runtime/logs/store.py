"""The logs of ranks as the controller knows them: which bytes have arrived, where each file is, and the spooled files.

A `RankLog` knows how many bytes of a log exist, without a hole. `LogBook` finds the log of a rank.
`SpoolFiles` writes the bytes of an agent that does not share the run directory, each once, at its offset.
Readers are in `cursor.py`; `service.py` has the thread that uses all of this.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, field

from protocol.ids import RankId
from protocol.machine.log_file import open_log
from protocol.machine.named_file import keep_at_path
from sflow_ctl.plan.log_paths import earlier_log_path, rank_log_path
from sflow_ctl.runtime.logs.line_index import LineIndex
from sflow_ctl.runtime.transport.transport import Way

MAX_OPEN_FILES = 128
"""Spool files kept open at once; the usual soft limit of a process is 1,024. The rest are opened again when
needed."""


class RankLog(Struct, eq=False):
    """One rank's log. `position` only grows."""

    rank: RankId
    path: Path
    position: int = 0
    """Bytes before this are in the file (spooled), or have been seen or reported (shared)."""
    received: int = 0
    """End of the furthest chunk that was taken: the most that may be acknowledged."""
    is_spooled: bool = False
    final_bytes: int | None = None
    """Size when the rank ended; None while it runs."""
    is_over: bool = False
    """Its last chunk has arrived; nothing more can come."""
    retry_at: float | None = None
    """When to request bytes again that the disk refused; None when it accepts them."""
    is_held: bool = False
    """The disk has just refused a write: chunks before `retry_at` are dropped, and sent again later."""
    last_ack: tuple[Way, int] = (b"", -1)
    """The receiver and the offset of the last acknowledgement."""
    acked_at: float = float("-inf")
    lines: LineIndex = field(default_factory=LineIndex)
    """How many there are in what readers have skipped."""

    @property
    def is_complete(self) -> bool:
        """Return whether all bytes that the rank itself wrote are known here."""
        return self.final_bytes is not None and self.position >= self.final_bytes

    @property
    def acknowledged(self) -> int:
        """Return the offset for a `LogAck`: never beyond what the agent is known to have sent."""
        return min(self.position, self.received)

    @property
    def label(self) -> str:
        """Return the name for people: the task, with the rank when there are several."""
        task = self.rank.attempt.task
        is_one_of_several = self.path.name.endswith(f".rank-{self.rank.rank}.log")
        return f"{task}.{self.rank.rank}" if is_one_of_several else task


def new_part(position: int, offset: int, size: int) -> int | None:
    """Return how many of a chunk's first bytes are known already; `size` for all of them, None if a hole is before it.

    This makes each byte arrive exactly once: repeated, overlapping and late chunks are cut, and one that
    would leave a hole is refused, so any order of arrival gives the same file.
    """
    if offset > position:
        return None
    return min(position - offset, size)


def log_file(run_directory: Path, relative: str) -> Path | None:
    """Return the path of a log within the run directory, or None if it would lead out of it."""
    parts = relative.split("/")
    if relative.startswith("/") or "" in parts or ".." in parts or "\0" in relative:
        return None
    return run_directory / relative


def current_path(relative: str, rank: RankId, newest_attempt: int) -> str:
    """Return where the rank's log is now: an earlier attempt's has been moved aside."""
    task, number = rank.attempt
    if number >= newest_attempt:
        return relative
    is_one_of_several = relative == rank_log_path(task, rank.rank)
    return earlier_log_path(task, number, rank.rank if is_one_of_several else None)


class LogBook:
    """The logs that are open, and the path of every rank's log."""

    def __init__(
        self,
        run_directory: Path,
        log_path_of: Callable[[RankId], str],
        newest_attempt: Callable[[str], int | None],
    ) -> None:
        """Begin without logs.

        `log_path_of` raises KeyError or IndexError for a rank the run does not have; `newest_attempt` returns None for a
        task that has not started.
        """
        self.run_directory = run_directory
        self.open: dict[RankId, RankLog] = {}
        self._log_path_of = log_path_of
        self._newest_attempt = newest_attempt

    def path_of(self, rank: RankId) -> Path | None:
        """Return where the rank's log is now; None for a rank that this run cannot have."""
        if rank.rank < 0 or rank.attempt.number < 1:
            return None
        try:
            relative = self._log_path_of(rank)
        except (KeyError, IndexError):
            return None
        newest = self._newest_attempt(rank.attempt.task) or rank.attempt.number
        return log_file(self.run_directory, current_path(relative, rank, newest))

    def to_view(self, rank: RankId) -> RankLog | None:
        """Return the open log, or one made from its file; None for a rank that this run cannot have."""
        log = self.open.get(rank)
        if log is None:
            path = self.path_of(rank)
            log = None if path is None else RankLog(rank, path)
        return log


class SpoolFiles:
    """The files this controller writes. Raises OSError when the disk refuses; nothing is lost then."""

    def __init__(self) -> None:
        self._open: OrderedDict[RankId, tuple[int, RankLog]] = OrderedDict()

    def existing_bytes(self, log: RankLog) -> int:
        """Return how many bytes an earlier controller of this run has already written; 0 without a file."""
        try:
            return log.path.stat().st_size
        except OSError:
            return 0

    def append(self, log: RankLog, body: memoryview) -> None:
        """Write `body` at the log's position, which grows by the written bytes, also when the rest fails."""
        descriptor = self._descriptor(log)
        while len(body):
            written = os.pwrite(descriptor, body, log.position)
            log.position += written
            body = body[written:]

    def touch(self, log: RankLog) -> None:
        """Make sure that the file exists: the log of a silent rank is an empty file."""
        self._descriptor(log)

    def rotate(self, rank: RankId, path: Path, earlier_path: Path) -> bool:
        """Move an earlier attempt's file aside; later bytes of it still go to it.

        Return False without a file.
        """
        opened = self._open.get(rank)
        if opened is not None:
            keep_at_path(opened[0], str(path))
        with suppress(FileNotFoundError):
            path.rename(earlier_path)
            return True
        return False

    def close_one(self, rank: RankId) -> None:
        """Close the rank's file if it is open."""
        opened = self._open.pop(rank, None)
        if opened is not None:
            descriptor, log = opened
            keep_at_path(descriptor, str(log.path))
            # Delayed write errors (NFS) show here; the bytes were acknowledged when the system took them.
            with suppress(OSError):
                os.close(descriptor)

    def close(self) -> None:
        """Close every file."""
        for rank in list(self._open):
            self.close_one(rank)

    def _descriptor(self, log: RankLog) -> int:
        opened = self._open.get(log.rank)
        if opened is not None:
            self._open.move_to_end(log.rank)
            keep_at_path(opened[0], str(log.path))
            return opened[0]
        try:
            descriptor = open_log(str(log.path))
        except FileNotFoundError:
            log.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = open_log(str(log.path))
        self._open[log.rank] = descriptor, log
        if len(self._open) > MAX_OPEN_FILES:
            self.close_one(next(iter(self._open)))
        return descriptor
