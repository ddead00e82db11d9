"""Follows the logs of ranks as they grow: searches them for patterns, and sends them while the window allows.

The file is the only buffer. `output` reports what grew; a log that its task writes itself, and another task's
log, which may not exist yet, be replaced by a retry's, or be written on another node, are read at intervals.
A log that is only streamed is watched a little late, so that thousands of short tasks cost nothing: it is
read once, at their end.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from protocol.ids import ProbeKey, RankId
from protocol.messages.checks import LogPattern
from protocol.messages.packets import LogChunk
from sflow_agent.core.events import AgentEvent, CheckObserved, LogsDelivered
from sflow_agent.core.send_window import SendWindow
from sflow_agent.logs.followed_log import Log
from sflow_agent.logs.output import ARM_AFTER_S, Outputs
from sflow_agent.logs.search import Search
from sflow_agent.logs.spool import DeliveredPart, LeftLog, SpoolIndex, log_size

IN_FLIGHT_BYTES = 16 * 1024 * 1024
"""The limit of unacknowledged bytes over all logs: bounds the agent's memory."""
REPEAT_AFTER_S = 5.0
"""Without an acknowledgement for this time, bytes in flight are sent again: a message may have been lost."""
FOREIGN_EVERY_S = 0.1
DIRECT_EVERY_S = 0.02
"""The interval for logs that tasks write themselves: one system call for each."""
READ_PER_PASS = 1024 * 1024
"""A flood of one task must not keep the loop from another's exit."""


class LogFollower:
    """All followed logs of this node. `send` puts one chunk on the wire and returns whether it was accepted."""

    def __init__(
        self,
        send: Callable[[LogChunk, bytes], bool],
        outputs: Outputs,
        warn: Callable[[str], None],
        index: SpoolIndex | None = None,
    ) -> None:
        """`warn` is called once for each text; `index` is that of the spool, if logs are written to one."""
        self._send, self._index = send, index
        self._outputs, self._warn = outputs, warn
        outputs.on_grown = self._note_grown
        self._logs: dict[RankId, Log] = {}
        outputs.is_followed = self._logs.__contains__
        self._direct: dict[RankId, Log] = {}
        """Logs that their tasks write themselves: read at intervals."""
        self._next_direct_look = 0.0
        self._to_arm: deque[tuple[float, RankId]] = deque()
        self._grown: dict[RankId, None] = {}
        """Logs to read, in order; a dictionary as an ordered set."""
        self._in_flight = 0
        self._repeat_at: float | None = None
        """When bytes in flight are sent again, unless an acknowledgement comes before."""
        self._is_blocked = False  # the socket accepts nothing until the next acknowledgement or session
        self._parked: dict[RankId, None] = {}
        """Logs with bytes to send and no room in the window, in order."""
        self._foreign: dict[RankId, Log] = {}
        self._next_foreign_look = 0.0
        self._is_finishing = False

    # ------------------------------------------------------------------ who is interested

    def stream(
        self,
        rank: RankId,
        path: str,
        is_spool: bool,
        now: float,
        relative: str = "",
        is_read_again: bool = True,
    ) -> None:
        """Send this log from its beginning. It keeps on disk what was sent only if all `is_read_again` at its end."""
        log = self._logs.setdefault(rank, Log(path))
        log.relative = relative
        log.delivered = DeliveredPart(path) if is_spool and not is_read_again else None
        if log.stream is None:
            log.stream = SendWindow(is_spool)
            self._to_arm.append((now + ARM_AFTER_S, rank))

    def hand_over(self, left: Iterable[LeftLog]) -> None:
        """Send what earlier agents of the run have left; the controller knows how much of each log it has."""
        for one in left:
            self._logs[one.rank] = Log.of_left(one)
            self._grown[one.rank] = None

    def watch(self, rank: RankId, path: str, offset: int) -> None:
        """Send this log from `offset` on, as ordered."""
        log = self._logs.setdefault(rank, Log(path))
        if log.stream is None:
            log.stream = SendWindow(is_spool=False)
        if not log.stream.is_spool:
            self._in_flight -= log.stream.sent - log.stream.acked
            log.stream.move(offset)
        self._arm(rank, log)

    def unwatch(self, rank: RankId) -> None:
        """Stop sending a log that was ordered; a spooled log is sent nevertheless."""
        log = self._logs.get(rank)
        if log is not None and log.stream is not None and not log.stream.is_spool:
            self._drop_stream(rank, log)

    def search(self, owner: RankId, key: ProbeKey, rank: RankId, path: str, pattern: LogPattern) -> None:
        """Search for a probe's pattern in the log of `rank`, from its beginning."""
        log = self._logs.setdefault(rank, Log(path))
        log.searches[owner, key] = Search.begin(pattern)
        self._arm(rank, log)

    def search_foreign(
        self, owner: RankId, key: ProbeKey, rank: RankId, path: str, pattern: LogPattern, now: float
    ) -> None:
        """Search for a pattern in another task's log; `rank` stands for whichever attempt is at `path`."""
        log = self._logs.setdefault(rank, Log(path, foreign_inode=0))
        log.searches[owner, key] = Search.begin(pattern)
        self._foreign[rank] = log
        self._grown[rank] = None
        self._next_foreign_look = min(self._next_foreign_look, now)

    def look_last(self, owner: RankId, key: ProbeKey) -> bool:
        """Search a log to its present end and say then whether the pattern is there; False where nothing is searched."""
        ranks = [rank for rank, log in self._logs.items() if (owner, key) in log.searches]
        for rank in ranks:
            self._logs[rank].searches[owner, key].look_last()
            self._grown[rank] = None
        return bool(ranks)

    def unsearch(self, owner: RankId, key: ProbeKey) -> None:
        """Stop the search of a probe."""
        for rank, log in list(self._logs.items()):
            if log.searches.pop((owner, key), None) is not None:
                self._forget_unused(rank, log)

    def renamed(self, old: str, new: str) -> None:
        """Follow a log that was renamed for the next attempt."""
        for log in self._logs.values():
            if log.path == old:
                log.path = new
                if log.delivered is not None:
                    log.delivered.path = new

    def finish(self, rank: RankId) -> None:
        """Note that the rank and its tree are gone, so its log is complete."""
        log = self._logs.get(rank)
        if log is None:
            return
        log.begin_anew(self._outputs.truncations(rank), self._warn)
        if log.stream is not None:
            log.stream.end_at(log_size(log.path))
        self._direct.pop(rank, None)
        self._grown[rank] = None

    # ------------------------------------------------------------------ the loop's side

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due: a source of the loop."""
        if self._grown or (self._is_finishing and self.is_delivered):
            return 0.0
        due = self._repeat_at
        if self._to_arm and _next_to_arm(self._to_arm, self._logs) is not None:
            due = _earlier(due, self._to_arm[0][0])
        due = _earlier(due, self._next_foreign_look) if self._foreign else due
        return _earlier(due, self._next_direct_look) if self._direct else due

    def poll(self, now: float) -> list[AgentEvent]:
        """Read what grew and send what the window allows; return the patterns seen, and once that all is delivered."""
        self._work_due(now)
        events: list[AgentEvent] = list(self._pump())
        self._repeat_if_silent(now)
        if self._is_finishing and self.is_delivered:
            self._is_finishing = False
            events.append(LogsDelivered())
        return events

    def finish_all(self) -> None:
        """Report with `LogsDelivered` when the controller has all of every log."""
        self._is_finishing = True

    def _work_due(self, now: float) -> None:
        """Watch the logs of tasks that live longer than a moment; read other tasks' logs."""
        if self._foreign and now >= self._next_foreign_look:
            self._next_foreign_look = now + FOREIGN_EVERY_S
            for foreign, foreign_log in self._foreign.items():
                if foreign_log.look_at_foreign():
                    self._grown[foreign] = None
        if self._direct and now >= self._next_direct_look:
            self._next_direct_look = now + DIRECT_EVERY_S
            for direct, direct_log in self._direct.items():
                size = log_size(direct_log.path)
                if size != direct_log.size:
                    direct_log.size = size
                    self._grown[direct] = None
        while (log := _next_to_arm(self._to_arm, self._logs)) is not None and self._to_arm[0][0] <= now:
            self._arm(self._to_arm.popleft()[1], log)
        self._repeat_if_silent(now)

    def _repeat_if_silent(self, now: float) -> None:
        if self._in_flight <= 0:
            self._repeat_at = None
        elif self._repeat_at is None:
            self._repeat_at = now + REPEAT_AFTER_S
        elif now >= self._repeat_at:
            self._repeat_at = now + REPEAT_AFTER_S
            self.rewind()

    def _note_grown(self, rank: RankId) -> None:
        if rank in self._logs:
            self._grown[rank] = None

    def _pump(self) -> list[CheckObserved]:
        """Read what grew and send what the window allows; return the patterns seen."""
        seen: list[CheckObserved] = []
        budget = READ_PER_PASS
        for rank in list(self._grown):
            if budget <= 0:
                return seen
            del self._grown[rank]
            log = self._logs.get(rank)
            if log is None:
                continue
            log.begin_anew(self._outputs.truncations(rank), self._warn)
            before = budget
            budget = log.search(budget, seen, self._warn)
            budget = self._stream(rank, log, budget)
            if budget <= 0 < before:
                self._grown[rank] = None  # more is left: its turn comes again, after the others
            self._forget_unused(rank, log)
        return seen

    def acknowledge(self, rank: RankId, offset: int) -> None:
        """Note that the controller has everything before `offset`."""
        log = self._logs.get(rank)
        if log is None or log.stream is None:
            return
        stream = log.stream
        before = stream.sent - stream.acked
        stream.acknowledge(offset)
        self._in_flight += stream.sent - stream.acked - before
        log.free_delivered()
        self._repeat_at = None
        self._unblock()
        self._grown[rank] = None

    def rewind(self) -> None:
        """Send the bytes in flight again: the connection is a new one, or silent."""
        for rank, log in self._logs.items():
            if log.stream is not None:
                log.stream.rewind()
                self._grown[rank] = None
        self._in_flight = 0
        self._unblock()

    @property
    def is_delivered(self) -> bool:
        """Return whether the controller has all of every ended rank's streamed log."""
        return all(log.stream is None or log.stream.is_delivered for log in self._logs.values())

    # ------------------------------------------------------------------ reading

    def _stream(self, rank: RankId, log: Log, budget: int) -> int:
        stream = log.stream
        if stream is None or stream.is_delivered:  # an empty log, mostly
            return budget
        try:
            descriptor = os.open(log.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:  # it was deleted: the rest of a complete log can never be sent
            if stream.end is None:
                return budget
            stream.end, descriptor = stream.sent, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return budget
        try:
            size = os.fstat(descriptor).st_size
            if stream.base + size < stream.sent and stream.end is None:
                log.begin_anew(self._outputs.truncations(rank), self._warn, is_shorter=True)
            log.note_base(rank, self._index)
            while budget > 0:
                chunk = stream.next_chunk(size)
                if chunk is None:
                    break
                if self._is_blocked or self._in_flight >= IN_FLIGHT_BYTES:
                    self._parked[rank] = None
                    break
                offset, length = chunk
                data = os.pread(descriptor, length, offset - stream.base) if length else b""
                if length and not data:
                    break
                is_end = stream.end is not None and offset + len(data) >= stream.end
                header = LogChunk(rank=rank, offset=offset, is_spool=stream.is_spool, is_end=is_end)
                if not self._send(header, data):
                    self._is_blocked = True
                    self._parked[rank] = None
                    break
                stream.note_sent(len(data))
                self._in_flight += len(data)
                budget -= len(data)
        finally:
            os.close(descriptor)
        return budget

    # ------------------------------------------------------------------ watches

    def _arm(self, rank: RankId, log: Log) -> None:
        if log.foreign_inode is None and not self._outputs.watch(rank):
            self._direct[rank] = log
        self._grown[rank] = None

    def _unblock(self) -> None:
        self._is_blocked = False
        self._grown.update(self._parked)
        self._parked.clear()

    def _drop_stream(self, rank: RankId, log: Log) -> None:
        assert log.stream is not None
        self._in_flight -= log.stream.sent - log.stream.acked
        log.stream = None
        self._forget_unused(rank, log)

    def _forget_unused(self, rank: RankId, log: Log) -> None:
        if log.stream is not None and log.stream.is_delivered:
            log.stream = None
        if log.stream is None and not log.searches:
            for logs in (self._logs, self._foreign, self._direct):
                logs.pop(rank, None)
            for waiting in (self._grown, self._parked):
                waiting.pop(rank, None)


def _next_to_arm(to_arm: deque[tuple[float, RankId]], logs: Mapping[RankId, Log]) -> Log | None:
    """Return the next log to watch, then the first in the queue; logs of ranks that have ended are taken out of that."""
    while to_arm:
        log = logs.get(to_arm[0][1])
        if log is not None and log.stream is not None and log.stream.end is None:
            return log
        to_arm.popleft()
    return None


def _earlier(at: float | None, other: float) -> float:
    return other if at is None or other < at else at
