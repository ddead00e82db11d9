"""Takes log chunks from agents: checks them, writes spooled ones, hands them to consumers, acknowledges them.

Owned by the output thread. Keeps nothing in memory: bytes that the disk refuses are dropped and requested
again, since the agent's file has them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from protocol.errors import MalformedMessageError
from protocol.ids import RankId
from protocol.messages.packets import FileGet, FilePut, LogAck, LogChunk
from protocol.session.codec import MAX_LOG_BODY_BYTES, decode_log_frame, encode
from sflow_ctl.runtime.logs.consumers.consumer import FollowedLogs, LogConsumer, begin_consuming
from sflow_ctl.runtime.logs.store import LogBook, RankLog, SpoolFiles, log_file, new_part
from sflow_ctl.runtime.transport.transport import LogArrival, LogChannel, Way

if TYPE_CHECKING:
    from sflow_ctl.runtime.handover.file_store import FileStore
    from sflow_ctl.runtime.logs.earlier_logs import EarlierLogs

CHUNKS_PER_PASS = 32
"""After so many chunks everything else has its turn: at 256 KiB a chunk that is some milliseconds."""
DISK_RETRY_S = 1.0
REPEAT_ACK_S = 0.5
"""An acknowledgement that repeats the last offset says "send again from there". Reasons to repeat it come in
bursts (all that is in flight behind a hole, or sent twice after a broken connection), so it is repeated at
most this often."""
MAX_RETIRED = 20_000
"""Ended logs whose last position is remembered, so that late repetitions are recognised."""


class IntakeOwner(Protocol):
    """The interface of the service that owns the intake."""

    def before_new_rank(self) -> object:
        """Carry out the orders given before the first bytes of a rank are taken."""

    def log_completed(self, rank: RankId) -> object:
        """Report that an awaited rank's log is complete, and merged if it is part of a gang."""

    def note(self, text: str) -> object:
        """Show a line to the user."""


class LogIntake:
    """All logs that are not complete and consumed yet."""

    def __init__(
        self,
        channel: LogChannel,
        place_of: Callable[[RankId], int | None],
        book: LogBook,
        consumers: Sequence[LogConsumer],
        owner: IntakeOwner,
        counters: Counter[str],
        earlier: "EarlierLogs | None" = None,
        followed: FollowedLogs | None = None,
    ) -> None:
        self._channel = channel
        self.awaited: set[RankId] = set()
        """Ranks that have ended, and whose exit waits for their log."""
        self._place_of, self._followed = place_of, followed or FollowedLogs({}, frozenset())
        self._earlier = earlier  # takes logs of attempts that earlier controllers of the run had begun
        self._book, self._logs = book, book.open
        self._consumers, self._owner = consumers, owner
        self._counters = counters
        self._spool = SpoolFiles()
        self._files: FileStore | None = None
        self._retired: dict[RankId, int] = {}
        self._stalled: set[RankLog] = set()
        self._senders: dict[RankLog, Way] = {}
        """The connection of the agent that last sent a chunk of the log."""
        self._to_ack: dict[RankLog, Way] = {}

    # ------------------------------------------------------------------ the output thread's side

    def wake_at(self, now: float) -> float | None:
        """Return when `work` is due without a chunk arriving; None if it is not."""
        times = [log.retry_at for log in self._stalled if log.retry_at is not None]
        times += [log.acked_at + REPEAT_ACK_S for log in self._to_ack]
        return max(min(times), now) if times else None

    def receive(self, now: float) -> None:
        """Take chunks that have arrived, up to a bounded number."""
        for arrival in self._channel.receive(CHUNKS_PER_PASS):
            self._take_arrival(arrival, now)

    def work(self, now: float) -> None:
        """Request bytes again that the disk refused, and send the acknowledgements that are due."""
        if self._stalled:
            self._retry_stalled(now)
        if self._to_ack:
            self._acknowledge(now)

    def ended(self, rank: RankId, log_bytes: int, is_spooled: bool, now: float) -> bool:
        """Note that the rank has ended with a log of this size; return whether consumers have work, not with an empty one."""
        is_awaited = is_spooled or any(one.must_finish(rank) for one in self._consumers)
        is_unknown = not is_awaited and rank not in self._logs
        if is_unknown and (not log_bytes or not any(one.wants(rank) for one in self._consumers)):
            return False
        log = self._log(rank, log_bytes)
        if log is None:
            if is_awaited:
                self._owner.log_completed(rank)
            return False
        log.final_bytes = max(log_bytes, log.final_bytes or 0)
        if is_awaited:
            self.awaited.add(rank)
        if is_spooled:
            self._mark_spooled(log)
            if log.final_bytes == 0:
                self._touch(log, now)
        else:
            # The file is in its place already, however much of it has been streamed.
            log.position = max(log.position, log.final_bytes)
        for consumer in self._consumers:
            consumer.grown(log)
        self.settle_log(log)
        return True

    def rotate(self, earlier: RankId, path: str, earlier_path: str) -> None:
        """Move an earlier attempt's log aside."""
        source = log_file(self._book.run_directory, path)
        target = log_file(self._book.run_directory, earlier_path)
        assert source is not None
        assert target is not None
        try:
            self._spool.rotate(earlier, source, target)
        except OSError as error:
            self._owner.note(f"cannot keep the log of {earlier}: {error.strerror}")
        log = self._logs.get(earlier)
        if log is not None:
            log.path = target

    def give_up(self, ranks: list[RankId]) -> None:
        """Stop waiting for these logs, because their agent is gone. Bytes that have arrived stay."""
        given_up = [rank for rank in ranks if rank in self.awaited]
        self.awaited.difference_update(given_up)
        if given_up:
            self._counters["logs_incomplete"] += len(given_up)
            names = ", ".join(str(rank) for rank in given_up[:10])
            self._owner.note(f"{len(given_up)} logs are incomplete, their node was lost: {names}")

    def settle_log(self, log: RankLog) -> None:
        """Report a log that is complete; forget it once it is consumed and no more can arrive."""
        if not log.is_complete or log in self._stalled or self._is_unfinished(log):
            return
        if log.rank in self.awaited:
            self.awaited.discard(log.rank)
            self._owner.log_completed(log.rank)
        for consumer in self._consumers:
            consumer.ended(log)
        if not all(consumer.has_all(log) for consumer in self._consumers):
            return
        if log.is_over or log not in self._senders:
            self._retire(log)

    def _is_unfinished(self, log: RankLog) -> bool:
        return any(one.must_finish(log.rank) and not one.has_all(log) for one in self._consumers)

    def close(self) -> None:
        """Close the files."""
        self._spool.close()
        for consumer in self._consumers:
            consumer.close()
        if self._earlier is not None:
            self._earlier.close()
        if self._files is not None:
            self._files.close()

    # ------------------------------------------------------------------ chunks

    def _take_arrival(self, arrival: LogArrival, now: float) -> None:
        way, node, header, body = arrival
        if not header or len(body) > MAX_LOG_BODY_BYTES:
            self._counters["malformed"] += 1
            return
        if node is None:
            self._counters["unauthorised"] += 1
            return
        try:
            chunk = decode_log_frame(header)
        except MalformedMessageError:
            self._counters["malformed"] += 1
            return
        if isinstance(chunk, FilePut | FileGet):
            if self._files is None:
                from sflow_ctl.runtime.handover.file_store import FileStore  # few runs need one

                self._files = FileStore(self._book.run_directory)
            answer, given = self._files.take(node, chunk, body)
            self._counters["unsent"] += not self._channel.send(way, encode(answer), given)  # it asks again
            return
        if self._place_of(chunk.rank) != node:
            if self._earlier is None or not self._earlier.owns(chunk.rank):
                self._counters["foreign_log_chunks"] += 1
            elif (offset := self._earlier.take(chunk, memoryview(body))) is not None:
                self._send_ack(way, chunk.rank, offset)
            return
        self._take_chunk(way, chunk, memoryview(body), now)

    def _take_chunk(self, sender: Way, chunk: LogChunk, body: memoryview, now: float) -> None:
        end = chunk.offset + len(body)
        known = self._retired.get(chunk.rank)
        if known is not None and end <= known:
            self._counters["repeated"] += bool(body)  # an end without bytes is not a repetition
            self._send_ack(sender, chunk.rank, end)
            return
        if chunk.rank not in self._logs:
            self._owner.before_new_rank()
        log = self._log(chunk.rank, chunk.offset)
        if log is None or chunk.offset < 0:
            self._counters["malformed"] += 1
            return
        self._senders[log] = sender
        if chunk.is_spool:
            self._mark_spooled(log)
            if not self._write(log, chunk.offset, body, now):
                return
        else:
            # The file has every byte, so there is no hole: a consumer that is behind reads it there.
            log.position = max(log.position, end)
        log.received = max(log.received, end)
        if chunk.is_end:
            log.is_over = True
            log.final_bytes = max(end, log.final_bytes or 0)
        if len(body) or log.last_ack != (sender, log.acknowledged):
            self._to_ack[log] = sender
        if len(body):
            for consumer in self._consumers:
                consumer.offer(log, chunk.offset, body, now)
        self.settle_log(log)

    def _write(self, log: RankLog, offset: int, body: memoryview, now: float) -> bool:
        """Write the new part of a spooled chunk to the file; return False when that failed."""
        if log.is_held:
            self._counters["held_back"] += 1
            return False
        cut = new_part(log.position, offset, len(body))
        if cut is None:
            self._counters["gaps"] += 1
            log.received = max(log.received, log.position)
            self._to_ack[log] = self._senders[log]
            return False
        if cut == len(body) > 0:
            self._counters["repeated"] += 1
            return True
        try:
            if len(body):
                self._spool.append(log, body[cut:])
            else:
                self._spool.touch(log)
        except OSError as error:
            log.received = max(log.received, log.position)
            self._stall(log, error, now)
            return False
        if log.retry_at is not None:
            self._recover(log)
        return True

    # ------------------------------------------------------------------ records

    def _log(self, rank: RankId, known: int) -> RankLog | None:
        """Return the record of this log, of which a killed controller had `known`; None for a rank that cannot be."""
        log = self._logs.get(rank)
        if log is None:
            if (path := self._book.path_of(rank)) is None:
                return None
            log = self._logs[rank] = RankLog(rank, path, position=self._retired.pop(rank, 0))
            begin_consuming(self._consumers, log, known if self._followed.has_begun(rank) else 0)
        return log

    def _mark_spooled(self, log: RankLog) -> None:
        if not log.is_spooled:
            log.is_spooled = True
            # An earlier controller of this run may have written some of it.
            log.position = max(log.position, self._spool.existing_bytes(log))

    def _retire(self, log: RankLog) -> None:
        if self._logs.pop(log.rank, None) is None:
            return
        if log in self._to_ack:
            self._send_ack(self._to_ack.pop(log), log.rank, log.acknowledged)
        self._senders.pop(log, None)
        self._spool.close_one(log.rank)
        for consumer in self._consumers:
            consumer.forget(log)
        self._retired[log.rank] = log.position
        if len(self._retired) > MAX_RETIRED:
            del self._retired[next(iter(self._retired))]

    # ------------------------------------------------------------------ the disk refuses

    def _touch(self, log: RankLog, now: float) -> None:
        try:
            self._spool.touch(log)
        except OSError as error:
            self._stall(log, error, now)

    def _stall(self, log: RankLog, error: OSError, now: float) -> None:
        if not self._stalled:
            self._owner.note(f"cannot write {log.path}: {error.strerror}; nothing is lost, trying again")
        self._counters["disk_errors"] += 1
        log.is_held, log.retry_at = True, now + DISK_RETRY_S
        self._stalled.add(log)

    def _recover(self, log: RankLog) -> None:
        log.is_held, log.retry_at = False, None
        self._stalled.discard(log)
        if not self._stalled:
            self._owner.note(f"{log.path} can be written again")

    def _retry_stalled(self, now: float) -> None:
        """Ask the agents to send the bytes again that the disk refused."""
        for log in list(self._stalled):
            if log.retry_at is None or now < log.retry_at:
                continue
            log.is_held, log.retry_at = False, now + DISK_RETRY_S
            sender = self._senders.get(log)
            if sender is not None and not log.is_complete:
                log.acked_at = float("-inf")
                self._to_ack[log] = sender
                continue
            self._touch(log, now)  # only the file itself was missing
            if not log.is_held:
                self._recover(log)
                self.settle_log(log)

    # ------------------------------------------------------------------ acknowledgements

    def _acknowledge(self, now: float) -> None:
        waiting = {}
        for log, sender in self._to_ack.items():
            ack = (sender, log.acknowledged)
            if ack == log.last_ack and now < log.acked_at + REPEAT_ACK_S:
                waiting[log] = sender
                continue
            log.last_ack, log.acked_at = ack, now
            self._send_ack(sender, log.rank, log.acknowledged)
        self._to_ack = waiting

    def _send_ack(self, sender: Way, rank: RankId, offset: int) -> None:
        if not self._channel.send(sender, encode(LogAck(rank=rank, offset=offset))):
            self._counters["unsent"] += 1  # the agent is away; it asks again when it is back
