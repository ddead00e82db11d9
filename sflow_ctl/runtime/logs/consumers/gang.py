"""Merges the logs of a gang's ranks into `<task>.log`: every line with its rank in front, in order of arrival.

Owned by the output thread. The order within a rank is kept. A rank's own file is the buffer: lines that
cannot be written now are read from there later. Lines that come after their rank was done with are added at the end.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from protocol.ids import AttemptId, RankId
from protocol.machine.log_file import open_log
from protocol.machine.named_file import keep_at_path
from sflow_ctl.plan.log_paths import earlier_log_path, log_path
from sflow_ctl.runtime.logs.consumers.consumer import FollowedLogs, LogConsumer
from sflow_ctl.runtime.logs.cursor import Cursor
from sflow_ctl.runtime.logs.store import RankLog

READ_BYTES = 256 * 1024
RETRY_S = 0.1
"""The delay after a failed write or read, and for bytes of another node that are not visible here yet (NFS)."""
MAX_LINE_BYTES = 1024 * 1024
"""A longer line is cut, so that memory stays bounded."""


class _MergedRank(Struct, eq=False):
    """The state of one rank's merge."""

    log: RankLog
    prefix: bytes
    cursor: Cursor
    rest: bytes = b""
    """The beginning of a line that has not ended yet."""
    pending: bytes = b""
    """Prefixed lines that the disk refused."""
    retry_at: float | None = None

    @property
    def is_merged(self) -> bool:
        """Return whether all known bytes of the rank's log are in the merged file, an unended last line too."""
        return self.cursor.is_at_end and not self.pending and not (self.rest and self.log.is_complete)

    def take(self, data: bytes | memoryview) -> None:
        """Turn new bytes into prefixed lines."""
        whole = self.rest + bytes(data)
        end = whole.rfind(b"\n") + 1
        self.rest = whole[end:]
        if end:
            lines = whole[: end - 1].split(b"\n")
            self.pending += b"".join(self.prefix + line + b"\n" for line in lines)
        if len(self.rest) > MAX_LINE_BYTES:
            self.finish()

    def finish(self) -> None:
        """End the line that has not ended."""
        if self.rest:
            self.pending += self.prefix + self.rest + b"\n"
            self.rest = b""


class GangLogs(LogConsumer):
    """Merges the logs of tasks with several ranks; `sizes` has their number, by task."""

    def __init__(
        self,
        run_directory: Path,
        sizes: dict[str, int],
        note: Callable[[str], object],
        followed: FollowedLogs | None = None,
    ) -> None:
        """`followed` is what a killed controller had; how far it had come with attempts that are not over is not known."""
        self._run_directory = run_directory
        self._sizes = sizes
        self._note = note
        self._parts: dict[RankLog, _MergedRank] = {}
        self._behind: dict[RankLog, _MergedRank] = {}
        self._late: dict[RankLog, bytes] = {}
        """Logs that were merged and forgotten, and have got more bytes since; with their prefixes."""
        self._torn: dict[AttemptId, _MergedRank] = {}
        """Merged logs whose last line is not whole, because the disk took only a part of it, and whose line it is."""
        self._files: dict[AttemptId, int] = {}
        self._attempts: dict[str, int] = {}
        """The newest attempt of each task."""
        self._has_complained = False
        left = followed or FollowedLogs({}, frozenset())
        self._attempts.update({task: number for task, number in left.attempts.items() if task in sizes})
        self._remerged = frozenset(one for one in left.open_attempts if one.task in sizes)
        self._is_anew = set(self._remerged)
        """Attempts whose merged log is replaced by a new one when its first rank is opened."""

    def begin_at(self, rank: RankId, offset: int, /) -> int:
        """Return 0 for an attempt whose logs are merged anew: the ranks' own files have everything."""
        return 0 if rank.attempt in self._remerged else offset

    def must_finish(self, rank: RankId) -> bool:
        """Return True for one of several ranks: its exit waits for the merged log."""
        return rank.attempt.task in self._sizes

    def open(self, log: RankLog, offset: int) -> None:
        """Start to merge this log, from `offset` on.

        The log of a task's only rank is ignored, here and below.
        """
        if not self.must_finish(log.rank):
            return
        from sflow_ctl.runtime.logs.late_lines import rank_prefix  # few runs have gangs

        prefix = rank_prefix(log.rank.rank, self._sizes[log.rank.attempt.task])
        if offset > 0:  # it had come to an end before
            self._late[log] = prefix
            return
        self._parts[log] = _MergedRank(log, prefix, Cursor(log, offset))
        self._begin_attempt(log)
        if log.rank.attempt in self._is_anew:
            self._is_anew.discard(log.rank.attempt)
            with suppress(OSError):
                os.ftruncate(self._file(log.rank.attempt), 0)

    def offer(self, log: RankLog, offset: int, body: memoryview, now: float) -> None:
        """Merge a chunk whose end is the log's position."""
        part = self._parts.get(log)
        if part is None:
            return
        if log not in self._behind:
            new = part.cursor.take(offset, body)
            if new is not None:
                part.take(new)
                if log.is_complete:
                    part.finish()
                self._write(part, now)
                return
        self._behind[log] = part

    def grown(self, log: RankLog) -> None:
        """Note that the log's file has more than was offered, or that the log has ended."""
        part = self._parts.get(log)
        if part is not None and not part.is_merged:
            self._behind[log] = part

    def has_all(self, log: RankLog) -> bool:
        """Return whether all known bytes of this log are in the merged file."""
        part = self._parts.get(log)
        return log not in self._late if part is None else part.is_merged

    def forget(self, log: RankLog) -> None:
        """Close the cursor of a log that is complete and merged, and the merged file with its last rank."""
        part = self._parts.pop(log, None)
        if part is None:
            return
        part.cursor.close()
        self._behind.pop(log, None)
        attempt = log.rank.attempt
        if not any(other.rank.attempt == attempt for other in self._parts):
            self._torn.pop(attempt, None)
            self._close(attempt)

    def wake_at(self, now: float) -> float | None:
        """Return when `work` is due; None if no log is behind."""
        if any(log.is_complete for log in self._late):
            return now
        if not self._behind:
            return None
        return min(now if part.retry_at is None else part.retry_at for part in self._behind.values())

    def work(self, now: float, limit: int) -> list[RankLog]:
        """Merge up to about `limit` bytes of logs that are behind; return the logs that are merged now."""
        merged = [log for log in list(self._late) if log.is_complete]
        for log in merged:
            self._add_late(log)
        for log, part in list(self._behind.items()):
            if part.retry_at is not None and now < part.retry_at:
                continue
            part.retry_at = None
            limit -= self._catch_up(part, now)
            if part.is_merged:
                del self._behind[log]
                merged.append(log)
            elif part.cursor.is_at_end and not part.pending:
                del self._behind[log]  # the beginning of a line: its end arrives as a chunk
            if limit <= 0:
                break
        return merged

    def close(self) -> None:
        """Add what has come late, and close the files."""
        for log in list(self._late):
            self._add_late(log)
        for attempt in list(self._files):
            self._close(attempt)

    def _add_late(self, log: RankLog) -> None:
        prefix = self._late.pop(log)
        self._close(log.rank.attempt)  # the file may be replaced
        from sflow_ctl.runtime.logs.late_lines import add_late_lines

        try:
            add_late_lines(self._path(log.rank.attempt), log.path, prefix)
        except OSError as error:
            self._complain(log, error)

    def _catch_up(self, part: _MergedRank, now: float) -> int:
        if part.pending:
            self._write(part, now)
            if part.pending:
                return 0
        try:
            piece = part.cursor.read(READ_BYTES)
        except OSError:
            part.retry_at = now + RETRY_S
            return 0
        if piece is None:
            if not part.cursor.is_at_end:
                part.retry_at = now + RETRY_S
                return 0
        else:
            part.take(piece.data)
        if part.cursor.is_at_end and part.log.is_complete:
            part.finish()
        self._write(part, now)
        return len(piece.data) if piece is not None else 0

    def _write(self, part: _MergedRank, now: float) -> None:
        if not part.pending:
            return
        attempt = part.log.rank.attempt
        if self._torn.get(attempt, part) is not part:
            part.retry_at = now + RETRY_S
            self._behind[part.log] = part
            return
        try:
            descriptor = self._file(attempt)
            while part.pending:
                written = os.write(descriptor, part.pending)
                if part.pending[written - 1 : written] == b"\n":
                    self._torn.pop(attempt, None)
                else:
                    self._torn[attempt] = part
                part.pending = part.pending[written:]
        except OSError as error:
            part.retry_at = now + RETRY_S
            self._behind[part.log] = part
            self._complain(part.log, error)

    def _complain(self, log: RankLog, error: OSError) -> None:
        if not self._has_complained:
            self._note(f"cannot write the merged log of {log.rank.attempt.task}: {error.strerror}")
        self._has_complained = True

    def _file(self, attempt: AttemptId) -> int:
        path = str(self._path(attempt))
        descriptor = self._files.get(attempt)
        if descriptor is None:
            descriptor = self._files[attempt] = open_log(path, os.O_APPEND)
        else:
            _keep(descriptor, path)
        return descriptor

    def _path(self, attempt: AttemptId) -> Path:
        """Return where the merged log of an attempt is now."""
        task, number = attempt
        is_newest = number >= self._attempts.get(task, 1)
        return self._run_directory / (log_path(task) if is_newest else earlier_log_path(task, number))

    def _begin_attempt(self, log: RankLog) -> None:
        """Rename the merged log of the previous attempt, once. Its lines that are not here yet follow it."""
        task, number = log.rank.attempt
        before = self._attempts.get(task, 1)
        if number <= before:
            return
        self._attempts[task] = number
        with suppress(OSError):
            (self._run_directory / log_path(task)).rename(
                self._run_directory / earlier_log_path(task, number - 1)
            )

    def _close(self, attempt: AttemptId) -> None:
        descriptor = self._files.pop(attempt, None)
        if descriptor is not None:
            _keep(descriptor, str(self._path(attempt)))
            with suppress(OSError):
                os.close(descriptor)


def _keep(descriptor: int, path: str) -> None:
    """Put a merged log back that a task deleted, to continue at its end."""
    if keep_at_path(descriptor, path):
        os.lseek(descriptor, 0, os.SEEK_END)
