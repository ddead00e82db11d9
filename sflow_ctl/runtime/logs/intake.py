"""Logs on their way in: chunks from agents are checked, put where they belong, handed on, and acknowledged.

Owned by the output thread. Keeps nothing in memory: what the disk refuses is dropped and asked for again,
since the agent's file has it.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import zmq

from protocol.errors import MalformedMessageError
from protocol.ids import RankId
from protocol.messages.logs import LogAck, LogChunk
from protocol.session.codec import MAX_LOG_BODY_BYTES, decode_log_chunk, encode
from sflow_ctl.runtime.logs.consumers.console import ConsoleFeed
from sflow_ctl.runtime.logs.consumers.gang import GangLogs
from sflow_ctl.runtime.logs.consumers.viewers import ViewerHub
from sflow_ctl.runtime.logs.store import RankLog, SpoolFiles, current_path, log_file, new_part

CHUNKS_PER_PASS = 32
"""Then everything else has its turn: at 256 KiB a chunk that is some milliseconds."""
DISK_RETRY_S = 1.0
REPEAT_ACK_S = 0.5
"""An acknowledgement that repeats the last offset says "send again from there". Reasons to repeat it come in
bursts (all that is in flight behind a hole, or sent twice after a broken connection), so it is repeated at
most this often."""
MAX_RETIRED = 20_000
"""Ended logs whose last position is remembered, so that late repetitions are recognised."""


class LogIntake:
    """All logs that are not complete and shown yet.

    `newest_attempt` tells a task's newest attempt, or None; `before_new_rank` is called before the first
    bytes of a rank are taken; `on_complete` hears of spooled ranks whose file is complete; `say` shows a line
    to the user.
    """

    def __init__(
        self,
        *,
        socket: "zmq.Socket[bytes]",
        run_directory: Path,
        node_of_key: Callable[[str], int | None],
        log_path_of: Callable[[RankId], str],
        newest_attempt: Callable[[str], int | None],
        before_new_rank: Callable[[], object],
        on_complete: Callable[[RankId], object],
        note: Callable[[str], object],
        feed: ConsoleFeed | None,
        gangs: GangLogs,
        counters: Counter[str],
    ) -> None:
        self.socket = socket
        self.viewers: ViewerHub | None = None
        self.awaited: set[RankId] = set()
        """Spooled ranks that have ended and whose file is not complete here."""
        self._run_directory = run_directory
        self._node_of_key = node_of_key
        self._log_path_of = log_path_of
        self._newest_attempt = newest_attempt
        self._before_new_rank = before_new_rank
        self._on_complete = on_complete
        self._note = note
        self._feed = feed
        self._gangs = gangs
        self._counters = counters
        self._spool = SpoolFiles()
        self._logs: dict[RankId, RankLog] = {}
        self._retired: dict[RankId, int] = {}
        self._stalled: set[RankLog] = set()
        self._senders: dict[RankLog, bytes] = {}
        """Routing id of the agent that last sent a chunk of the log."""
        self._to_ack: dict[RankLog, bytes] = {}

    # ------------------------------------------------------------------ the output thread's side

    def wake_at(self, now: float) -> float | None:
        """When `work` has something to do without a chunk arriving."""
        times = [log.retry_at for log in self._stalled if log.retry_at is not None]
        times += [log.told_at + REPEAT_ACK_S for log in self._to_ack]
        return max(min(times), now) if times else None

    def receive(self, now: float) -> None:
        """Takes chunks that have arrived, up to a bounded number."""
        for _ in range(CHUNKS_PER_PASS):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._take_frames(frames, now)

    def work(self, now: float) -> None:
        """Asks again for what the disk refused, and sends the acknowledgements that are due."""
        if self._stalled:
            self._retry_stalled(now)
        if self._to_ack:
            self._acknowledge(now)

    def ended(self, rank: RankId, log_bytes: int, is_spooled: bool, now: float) -> None:
        """The rank has ended with a log of this size."""
        is_awaited = is_spooled or self._gangs.is_part(rank)
        if not is_awaited and self._feed is None and rank not in self._logs:
            return
        log = self._log(rank)
        if log is None:
            if is_awaited:
                self._on_complete(rank)
            return
        log.final_bytes = max(log_bytes, log.final_bytes or 0)
        if is_awaited:
            self.awaited.add(rank)
        if is_spooled:
            self._mark_spooled(log)
            if log.final_bytes == 0:
                self._touch(log, now)
        else:
            # The file is where it belongs already, whatever of it has been streamed.
            log.position = max(log.position, log.final_bytes)
        if self._feed is not None:
            self._feed.grown(log)
        self._gangs.grown(log)
        self.settle(log)

    def rotate(self, earlier: RankId, path: str, earlier_path: str) -> None:
        """Moves an earlier attempt's log aside."""
        source = log_file(self._run_directory, path)
        target = log_file(self._run_directory, earlier_path)
        assert source is not None
        assert target is not None
        try:
            self._spool.rotate(earlier, source, target)
        except OSError as error:
            self._note(f"cannot keep the log of {earlier}: {error.strerror}")
        log = self._logs.get(earlier)
        if log is not None:
            log.path = target

    def give_up(self, ranks: list[RankId]) -> None:
        """Nothing more comes of these: their agent is gone. What has arrived stays."""
        given_up = [rank for rank in ranks if rank in self.awaited]
        self.awaited.difference_update(given_up)
        if given_up:
            self._counters["logs_incomplete"] += len(given_up)
            names = ", ".join(str(rank) for rank in given_up[:10])
            self._note(f"{len(given_up)} logs are incomplete, their node was lost: {names}")

    def settle(self, log: RankLog) -> None:
        """Reports a log that is complete, and forgets it once it is shown and nothing more can come."""
        if not log.is_complete or log in self._stalled or not self._gangs.is_merged(log):
            return
        if log.rank in self.awaited:
            self.awaited.discard(log.rank)
            self._on_complete(log.rank)
        if self._feed is not None:
            self._feed.ended(log)
            if not self._feed.is_shown(log):
                return
        if log.is_over or log not in self._senders:
            self._retire(log)

    def log_to_view(self, rank: RankId) -> RankLog | None:
        """The live record of a log, or one of its file as it is; None for a rank this run cannot have."""
        log = self._logs.get(rank)
        if log is None:
            path = self._path_of(rank)
            log = None if path is None else RankLog(rank, path)
        return log

    def close(self) -> None:
        """Closes the files."""
        self._spool.close()
        self._gangs.close()

    # ------------------------------------------------------------------ chunks

    def _take_frames(self, frames: "list[zmq.Frame]", now: float) -> None:
        if len(frames) != 3 or len(frames[2]) > MAX_LOG_BODY_BYTES:
            self._counters["malformed"] += 1
            return
        try:
            node = self._node_of_key(str(frames[2].get("User-Id")))
        except zmq.ZMQError:
            node = None
        if node is None:
            self._counters["unauthorised"] += 1
            return
        try:
            chunk = decode_log_chunk(frames[1].bytes)
        except MalformedMessageError:
            self._counters["malformed"] += 1
            return
        self._take_chunk(frames[0].bytes, chunk, frames[2].buffer, now)

    def _take_chunk(self, sender: bytes, chunk: LogChunk, body: memoryview, now: float) -> None:
        end = chunk.offset + len(body)
        known = self._retired.get(chunk.rank)
        if known is not None and end <= known:
            self._counters["repeated"] += bool(body)  # an end without bytes is no repetition
            self._send_ack(sender, chunk.rank, end)
            return
        if chunk.rank not in self._logs:
            self._before_new_rank()
        log = self._log(chunk.rank)
        if log is None or chunk.offset < 0:
            self._counters["malformed"] += 1
            return
        self._senders[log] = sender
        if chunk.is_spool:
            self._mark_spooled(log)
            if not self._write(log, chunk.offset, body, now):
                return
        else:
            # The file has every byte, so a hole is none: whoever is behind reads it there.
            log.position = max(log.position, end)
        log.received = max(log.received, end)
        if chunk.is_end:
            log.is_over = True
            log.final_bytes = max(end, log.final_bytes or 0)
        if len(body) or log.told != (sender, log.acknowledged):
            self._to_ack[log] = sender
        if len(body):
            if self._feed is not None:
                self._feed.offer(log, chunk.offset, body)
            self._gangs.offer(log, chunk.offset, body, now)
            if self.viewers is not None:
                self.viewers.offer(log, chunk.offset, body)
        self.settle(log)

    def _write(self, log: RankLog, offset: int, body: memoryview, now: float) -> bool:
        """Puts the new part of a spooled chunk into the file. False when it could not be taken."""
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

    def _log(self, rank: RankId) -> RankLog | None:
        """The record of this rank's log, made when new; None for a rank that this run cannot have."""
        log = self._logs.get(rank)
        if log is None:
            path = self._path_of(rank)
            if path is None:
                return None
            log = self._logs[rank] = RankLog(rank, path, position=self._retired.pop(rank, 0))
            if self._feed is not None:
                self._feed.open(log, log.position)
            self._gangs.open(log, log.position)
        return log

    def _path_of(self, rank: RankId) -> Path | None:
        if rank.rank < 0 or rank.attempt.number < 1:
            return None
        try:
            relative = self._log_path_of(rank)
        except (KeyError, IndexError):
            return None
        newest = self._newest_attempt(rank.attempt.task) or rank.attempt.number
        return log_file(self._run_directory, current_path(relative, rank, newest))

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
        if self._feed is not None:
            self._feed.forget(log)
        self._gangs.forget(log)
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
            self._note(f"cannot write {log.path}: {error.strerror}; nothing is lost, trying again")
        self._counters["disk_errors"] += 1
        log.is_held, log.retry_at = True, now + DISK_RETRY_S
        self._stalled.add(log)

    def _recover(self, log: RankLog) -> None:
        log.is_held, log.retry_at = False, None
        self._stalled.discard(log)
        if not self._stalled:
            self._note(f"{log.path} can be written again")

    def _retry_stalled(self, now: float) -> None:
        """Asks the agents to send again what was refused."""
        for log in list(self._stalled):
            if log.retry_at is None or now < log.retry_at:
                continue
            log.is_held, log.retry_at = False, now + DISK_RETRY_S
            sender = self._senders.get(log)
            if sender is not None and not log.is_complete:
                log.told_at = float("-inf")
                self._to_ack[log] = sender
                continue
            self._touch(log, now)  # only the file itself was missing
            if not log.is_held:
                self._recover(log)
                self.settle(log)

    # ------------------------------------------------------------------ acknowledgements

    def _acknowledge(self, now: float) -> None:
        waiting = {}
        for log, sender in self._to_ack.items():
            news = (sender, log.acknowledged)
            if news == log.told and now < log.told_at + REPEAT_ACK_S:
                waiting[log] = sender
                continue
            log.told, log.told_at = news, now
            self._send_ack(sender, log.rank, log.acknowledged)
        self._to_ack = waiting

    def _send_ack(self, sender: bytes, rank: RankId, offset: int) -> None:
        try:
            self.socket.send_multipart((sender, encode(LogAck(rank=rank, offset=offset))), zmq.NOBLOCK)
        except zmq.ZMQError:
            self._counters["unsent"] += 1  # the agent is away; it asks again when it is back
