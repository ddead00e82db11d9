"""The log files of tasks, attempts and processes, and their lines in time order. Called by `logs`.

The time of a line is the one that it begins with, else that of the line before, else the start of its attempt: then it is
only known that the line came at that time or later. New lines of a log that grows have the time at which they were seen.
"""

import heapq
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from protocol.errors import UsageError
from protocol.ids import AttemptId, RankId
from protocol.messages.facts import RankStarted
from protocol.text.counted import counted
from sflow_ctl.core.events import MessageReceived
from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.report.looking.line_times import AttemptTimes
from sflow_ctl.runtime.logs.cursor import Cursor, file_log
from sflow_ctl.runtime.logs.store import current_path
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.viewing.journal_feed import JournalFeed
from sflow_ctl.runtime.viewing.messages import Change

BLOCK_BYTES = 64 * 1024
"""Read at once of each log: a thousand of them are in memory at the same time."""
MAX_LINE_BYTES = 1024 * 1024
"""A longer line is shown in parts."""


class TimedLine(NamedTuple):
    """A line, or the unfinished last one, without its newline."""

    wall_ns: int
    """0 if nothing is known."""
    order: int
    """Of its log, among those asked for."""
    is_known: bool
    """The line says so itself, or it was seen to come; else it came then or later."""
    may_be_until_ns: int
    """The latest time at which it can have come."""
    label: str
    data: bytes


class LogPart(Struct, eq=False):
    """A log file, and how far it has been read."""

    task: str
    attempt: int
    rank: int | None
    """None for the log of the whole task."""
    label: str
    path: Path
    times: AttemptTimes
    order: int = 0
    offset: int = 0
    _last_ns: int = 0
    _has_time: bool = False
    _inode: int = 0
    """Of the file that was read first: the next attempt's has the same name."""

    def begin_at_last_lines(self, count: int) -> None:
        """Leave out all but the last lines that are there now."""
        with suppress(OSError):
            cursor = Cursor(file_log(self.path, self.task))
            cursor.seek_to_last_lines(count)
            self.offset = cursor.offset
            cursor.close()

    def lines(self) -> Iterator[TimedLine]:
        """Yield the lines that are there now, from `offset` on; the file is open only while it is read."""
        self._last_ns = self._last_ns or self.times.started_ns
        with suppress(OSError):
            size, held = self.path.stat().st_size, b""
            first_known: int | None = None
            while self.offset < size and (block := self._read(min(BLOCK_BYTES, size - self.offset))):
                lines = (held + block).split(b"\n")
                held = lines.pop()
                if len(held) > MAX_LINE_BYTES:
                    lines, held = [*lines, held], b""
                if first_known is None:
                    first_known = next((at for at in map(self.times.time_of, lines) if at is not None), 0)
                yield from (self._timed(line, first_known or self.times.ended_ns) for line in lines)
            if held:
                yield self._timed(held, first_known or self.times.ended_ns)

    def new_lines(self, *, is_over: bool) -> Iterator[TimedLine]:
        """Yield the whole lines that have come since; with `is_over` an unfinished one as well."""
        now = time.time_ns()
        with suppress(OSError):
            while block := self._read(MAX_LINE_BYTES):
                whole, newline, rest = block.rpartition(b"\n")
                if not newline and not is_over and len(block) < MAX_LINE_BYTES:
                    self.offset -= len(block)
                    return
                if newline and not is_over:
                    self.offset -= len(rest)
                lines = whole.split(b"\n") if newline else [block]
                if newline and is_over and rest:
                    lines.append(rest)
                for line in lines:
                    self._last_ns = self.times.time_of(line) or now
                    yield TimedLine(self._last_ns, self.order, True, self._last_ns, self.label, line)

    def _read(self, size: int) -> bytes:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            inode = os.fstat(descriptor).st_ino
            self._inode = self._inode or inode
            block = os.pread(descriptor, size, self.offset) if inode == self._inode else b""
        finally:
            os.close(descriptor)
        self.offset += len(block)
        return block

    def _timed(self, line: bytes, first_known: int) -> TimedLine:
        own = self.times.time_of(line)
        if own is not None:
            self._has_time = True
            self._last_ns = max(self._last_ns, own)  # lines of several threads may be a little out of order
        until = self._last_ns if self._has_time else max(first_known, self._last_ns)
        return TimedLine(self._last_ns, self.order, own is not None, until, self.label, line)


class Wanted(Struct, frozen=True, kw_only=True):
    """Which logs of the chosen tasks are wanted. Empty means all; of attempts only the newest."""

    nodes: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    attempt: int | None = None
    """0 for all attempts; None for the newest."""


def merged(parts: Sequence[LogPart]) -> Iterator[TimedLine]:
    """Yield the lines of several logs in the order of their times; of equal ones in the order of the logs."""
    return heapq.merge(*(part.lines() for part in parts), key=lambda line: (line.wall_ns, line.order))


def log_parts(
    reader: RunReader, changes: Sequence[Change], tasks: Sequence[str], wanted: Wanted
) -> list[LogPart]:
    """Return the logs of tasks. `changes` are all of the run. Raises: UsageError for a node or process that is not there."""
    _check(reader, tasks, wanted)
    planned = {task.name: task for task in reader.plan.tasks}
    places = _places(reader) if wanted.nodes else {}
    times = attempt_times(changes)
    parts: list[LogPart] = []
    for name in tasks:
        newest = reader.state.tasks[name].attempts
        for attempt in _attempts(newest, wanted.attempt):
            for rank in _ranks(planned[name], wanted, places, attempt):
                part = _part(reader, planned[name], attempt, rank, newest)
                part.times = times.get((name, attempt), AttemptTimes(0, time.time_ns()))
                part.order = len(parts)
                parts.append(part)
    return parts


def attempt_times(changes: Sequence[Change]) -> dict[tuple[str, int], AttemptTimes]:
    """Return when each attempt began and ended; of one that has not, now."""
    found: dict[tuple[str, int], AttemptTimes] = {}
    now = time.time_ns()
    for change in changes:
        transition = change.transition
        key = (transition.task, transition.attempt)
        if transition.new is TaskState.STARTING:
            found[key] = AttemptTimes(change.wall_ns, now)
        elif (transition.new in TERMINAL or transition.is_again) and key in found:
            found[key] = AttemptTimes(found[key].started_ns, change.wall_ns)
    return found


def _check(reader: RunReader, tasks: Sequence[str], wanted: Wanted) -> None:
    names = [node.name for node in reader.plan.nodes]
    for node in wanted.nodes:
        if node not in names:
            hint = f"its nodes are {', '.join(names[:20])}"
            raise UsageError.of("unknown-node", f'run {reader.facts.run_id} has no node "{node}"', hint=hint)
    sizes = {task.name: task.world_size for task in reader.plan.tasks}
    most = max((sizes[task] for task in tasks), default=0)
    for rank in wanted.ranks:
        if rank >= most:
            hint = "processes are counted from 0"
            raise UsageError.of(
                "unknown-rank", f"the largest of these tasks has {counted(most, 'process')}", hint=hint
            )
    attempts = max((reader.state.tasks[task].attempts for task in tasks), default=0)
    if attempts and (wanted.attempt or 0) > attempts:
        of = f"{tasks[0]} has" if len(tasks) == 1 else "no task of these has more than"
        hint = "--attempt all prints the logs of all attempts"
        raise UsageError.of("unknown-attempt", f"{of} {counted(attempts, 'attempt')}", hint=hint)


def _attempts(newest: int, wanted: int | None) -> list[int]:
    if wanted is None:
        return [newest or 1]
    if wanted == 0:
        return list(range(1, newest + 1)) or [1]
    return [wanted] if wanted <= newest else []


def _ranks(
    task: PlannedTask, wanted: Wanted, places: dict[RankId, str], attempt: int
) -> Iterator[int | None]:
    """Yield the ranks whose own logs are wanted; None for the log of the whole task."""
    if not wanted.ranks and not wanted.nodes:
        yield None
        return
    for number in range(task.world_size):
        at = places.get(RankId(AttemptId(task.name, attempt), number))
        if (not wanted.ranks or number in wanted.ranks) and (not wanted.nodes or at in wanted.nodes):
            yield number if task.world_size > 1 else None


def _part(reader: RunReader, task: PlannedTask, attempt: int, rank: int | None, newest: int) -> LogPart:
    relative = log_path(task.name) if rank is None else rank_log_path(task.name, rank)
    name = RankId(AttemptId(task.name, attempt), rank or 0)
    label = task.name if rank is None else f"{task.name}.{rank}"
    path = reader.directory / current_path(relative, name, newest)
    return LogPart(task.name, attempt, rank, label, path, AttemptTimes(0, 0))


def _places(reader: RunReader) -> dict[RankId, str]:
    """Return the nodes on which processes were started."""
    names = {node.index: node.name for node in reader.plan.nodes}
    found: dict[RankId, str] = {}
    for entry in JournalFeed(reader.directory).entries((b'"rank_started"',)):
        event = entry.event
        if isinstance(event, MessageReceived) and isinstance(event.message, RankStarted):
            found[event.message.rank] = names.get(event.node, "")
    return found
