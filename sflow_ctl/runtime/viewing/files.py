"""Watches a run through its files, when its controller cannot be reached. The same interface as `ViewerLink`.

Reads five times a second: network file systems do not report that a file has grown on another machine.
"""

import time

from msgspec import Struct, field

from protocol.ids import RankId
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.runtime.logs.cursor import Cursor
from sflow_ctl.runtime.logs.store import RankLog, current_path
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.viewing.client import (
    Current,
    Ended,
    LogOutput,
    OutputEnded,
    ViewerLink,
    ViewEvent,
    connect,
)

LOOK_S = 0.2
LIVENESS_S = 1.0
PIECE_BYTES = 256 * 1024


class _Followed(Struct):
    cursor: Cursor
    lines: int | None
    """Lines to go back once the file exists; None when the position is known."""


class FileWatch(Struct):
    """Follows a run by its journal and logs."""

    reader: RunReader
    _followed: dict[RankId, _Followed] = field(default_factory=dict)
    _is_current: bool = False
    _look_at: float = 0.0
    _has_ended: bool = False

    def follow(self, rank: RankId, lines: int, offset: int | None = None) -> None:
        """Follow a rank's log from `offset` on, or from its last `lines` lines on."""
        record = self.reader.state.tasks.get(rank.attempt.task)
        newest = record.attempts if record is not None else rank.attempt.number
        path = self.reader.directory / current_path(log_path(rank.attempt.task), rank, newest)
        cursor = Cursor(RankLog(rank, path), offset or 0, may_skip=True)
        self._followed[rank] = _Followed(cursor, lines if offset is None else None)

    def unfollow(self, rank: RankId) -> None:
        """Stop following a log."""
        followed = self._followed.pop(rank, None)
        if followed is not None:
            followed.cursor.close()

    def receive(self, timeout_s: float) -> list[ViewEvent]:
        """Return the news, after waiting at most so long for the first."""
        deadline = time.monotonic() + timeout_s
        while True:
            events = self._look()
            left = deadline - time.monotonic()
            if events or left <= 0:
                return events
            time.sleep(min(LOOK_S, left))

    def close(self) -> None:
        """Close the open files."""
        for rank in list(self._followed):
            self.unfollow(rank)

    def _look(self) -> list[ViewEvent]:
        # Whether the run is active is asked before its files are read: they are complete if it was not.
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LIVENESS_S
            # A controller that neither answers nor renews its claim may be suspended; there is nothing more to follow.
            self._has_ended = self.reader.status().liveness is not Liveness.RUNNING
        events: list[ViewEvent] = list(self.reader.refresh())
        if not self._is_current:
            self._is_current = True
            events.append(Current())
        is_more = False
        for rank, followed in list(self._followed.items()):
            is_more |= self._read(rank, followed, events)
        if self._has_ended and not is_more and not events:
            events.append(Ended(is_orderly=self.reader.summary() is not None))
        return events

    def _read(self, rank: RankId, followed: _Followed, events: list[ViewEvent]) -> bool:
        """Add the new bytes of a log; return True when there is more to read at once."""
        cursor = followed.cursor
        is_over = self._is_over(rank)  # before the size, for the same reason
        try:
            cursor.log.position = max(cursor.log.position, cursor.log.path.stat().st_size)
            if followed.lines is not None:
                cursor.seek_to_last_lines(followed.lines)
                followed.lines = None
            piece = cursor.read(PIECE_BYTES)
        except OSError:
            piece = None  # it does not exist yet, or no longer
        if piece is None:
            if is_over:
                events.append(OutputEnded(rank))
                self.unfollow(rank)
            return False
        if piece.data or piece.skipped_lines:
            events.append(LogOutput(rank, piece.data, piece.skipped_lines, str(cursor.log.path)))
        return not cursor.is_at_end

    def _is_over(self, rank: RankId) -> bool:
        return self._has_ended or self.reader.state.has_ended(rank.attempt.task, rank.attempt.number)


def watch_run(reader: RunReader) -> tuple[ViewerLink | FileWatch, str]:
    """Connect to the controller, or watch the files of the run; return the watch and how it was reached."""
    facts = reader.connection()
    link = connect(facts) if facts is not None else None
    if link is not None:
        return link, "through its controller"
    return FileWatch(reader), "through its files (its controller does not answer)"
