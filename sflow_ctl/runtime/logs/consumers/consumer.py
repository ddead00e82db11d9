"""The interface between the intake of logs and its consumers: the console, gang merges, viewers, searches.

A consumer gets chunks as they arrive; one that falls behind reads the rank's file later, so memory stays
bounded. All consumers belong to the output thread.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from protocol.ids import AttemptId, RankId
from sflow_ctl.runtime.logs.store import RankLog


class FollowedLogs(Struct, frozen=True):
    """How far a controller that was killed had come with the logs of its run."""

    attempts: Mapping[str, int]
    """The last attempt of each task that has begun."""
    open_attempts: frozenset[AttemptId]
    """Those that are not over."""

    def has_begun(self, rank: RankId) -> bool:
        """Return whether that controller had ordered this rank, which was placed."""
        return rank.attempt.number <= self.attempts.get(rank.attempt.task, 0)


class LogConsumer:
    """A consumer that ignores everything; each real one overrides the methods that it needs."""

    def wants(self, _rank: RankId, /) -> bool:
        """True if the rank's log is opened for this consumer even when none of it has arrived."""
        return False

    def must_finish(self, _rank: RankId, /) -> bool:
        """True if the rank's exit waits until this consumer `has_all` of its log."""
        return False

    def begin_at(self, _rank: RankId, offset: int, /) -> int:
        """Return where to begin with the log of a rank that an earlier controller had followed as far as `offset`."""
        return offset

    def open(self, log: RankLog, offset: int) -> None:
        """Begin to consume this log, from `offset` on."""

    def offer(self, log: RankLog, offset: int, body: memoryview, now: float, /) -> None:
        """Take a chunk whose end is the log's position."""

    def grown(self, log: RankLog) -> None:
        """Note that the log's file has more than was offered, or that the log has ended."""

    def ended(self, log: RankLog) -> None:
        """Note that the rank has ended and its log is complete."""

    def has_all(self, _log: RankLog, /) -> bool:
        """Return whether all known bytes of this log are consumed."""
        return True

    def forget(self, log: RankLog) -> None:
        """Close the resources of a log that is complete and consumed."""

    def wake_at(self, _now: float, /) -> float | None:
        """Return when `work` is due without a chunk arriving; None if it is not."""
        return None

    def work(self, _now: float, _limit: int, /) -> list[RankLog]:
        """Catch up by reading up to about `limit` bytes from files; return the logs that are caught up now."""
        return []

    def close(self) -> None:
        """Close every file."""


def begin_consuming(consumers: Sequence[LogConsumer], log: RankLog, known: int) -> None:
    """Open a log for all consumers; `known` is how much of it a controller had that was killed."""
    for consumer in consumers:
        consumer.open(log, log.position or consumer.begin_at(log.rank, known))
