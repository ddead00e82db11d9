"""Lines of logs that are chosen by time, text, node, process or attempt, or get their times: a part of `logs`.

Reads the files of the run, while it grows as well: a log is there wherever its node is.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import click
from msgspec import Struct

from protocol.machine.pattern_process import install as install_pattern_process
from protocol.text.line_pattern import LinePattern
from sflow_ctl.cli.terminal.lines import json_line
from sflow_ctl.core.states import TERMINAL
from sflow_ctl.plan.log_paths import earlier_log_path
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.viewing.log_parts import LogPart, TimedLine, Wanted, log_parts, merged
from sflow_ctl.runtime.viewing.messages import Change

LOOK_S = 0.2
LIVENESS_S = 2.0

Put = Callable[[str, bytes], None]
"""Prints a line of a log, by the log's label."""


class PrintedLine(Struct, frozen=True, kw_only=True):
    """A line of `logs --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    label: str
    """The task, with the attempt or the process where several are printed, as before the lines for people."""
    wall_ns: int | None
    """When it came, in ns since 1970; null if nothing is known."""
    is_known: bool
    """The line says so itself, or it was seen to come; else it came then or later."""
    text: str
    """The line, without its end; bytes that are not UTF-8 are U+FFFD."""


class Choice(Struct, frozen=True, kw_only=True):
    """Which lines are printed, and how."""

    wanted: Wanted
    since_ns: int | None = None
    until_ns: int | None = None
    pattern: LinePattern | None = None
    has_times: bool = False
    as_json: bool = False

    @property
    def leaves_out(self) -> bool:
        """Return whether lines of the chosen logs are left out."""
        return (self.since_ns, self.until_ns, self.pattern) != (None, None, None)

    def takes(self, line: TimedLine) -> bool:
        """Return whether a line is printed: one that may have come within the time is."""
        if self.since_ns is not None and line.may_be_until_ns < self.since_ns:
            return False
        if self.until_ns is not None and line.wall_ns > self.until_ns:
            return False
        return self.pattern is None or self.pattern.is_in(line.data.decode(errors="replace"))

    def text(self, line: TimedLine) -> bytes:
        """Return what is printed for a line."""
        if self.as_json:
            shown = PrintedLine(
                label=line.label,
                wall_ns=line.wall_ns or None,
                is_known=line.is_known,
                text=line.data.decode(errors="replace"),
            )
            return json_line(shown).encode() + b"\n"
        if not self.has_times:
            return line.data + b"\n"
        return b"%s %s\n" % (stamp(line).encode(), line.data)


def stamp(line: TimedLine) -> str:
    """Return a line's time with milliseconds, after `>` where the line came then or later; blanks where nothing is known."""
    if not line.wall_ns:
        return " " * 24
    seconds, rest = divmod(line.wall_ns, 1_000_000_000)
    mark = " " if line.is_known else ">"
    return f"{mark}{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03}"


class ChosenLines:
    """The chosen lines of the chosen tasks."""

    def __init__(
        self, reader: RunReader, changes: Sequence[Change], tasks: Sequence[str], choice: Choice, put: Put
    ) -> None:
        """`changes` are all of the run. Raises: UsageError."""
        self._reader = reader
        self._changes = list(changes)
        self._tasks = tasks
        self._choice = choice
        self._put = put
        self.parts = log_parts(reader, changes, tasks, choice.wanted)

    def print_all(self, last: int | None) -> None:
        """Print what is there, of each log at most the last lines."""
        if last is not None and not self._choice.leaves_out:
            for part in self.parts:
                part.begin_at_last_lines(last)
        lines: Iterable[TimedLine] = (line for line in merged(self.parts) if self._choice.takes(line))
        if last is not None and self._choice.leaves_out:
            lines = _last_of_each(lines, last)
        self._print(lines)

    def follow(self) -> None:
        """Print new lines until the tasks or the run have ended."""
        look_at, is_over = 0.0, self._reader.summary() is not None
        while True:
            now = time.monotonic()
            if now >= look_at:  # before the files are read: they are complete if the run was over
                look_at = now + LIVENESS_S
                is_over = is_over or self._reader.status().liveness is not Liveness.RUNNING
            self._changes += self._reader.refresh()
            self._add_new_attempts()
            for part in self.parts:
                has_ended = self._reader.state.has_ended(part.task, part.attempt)
                new = part.new_lines(is_over=has_ended or is_over)
                self._print(line for line in new if self._choice.takes(line))
            self.parts = [part for part in self.parts if not self._is_past(part)]
            if is_over or all(self._reader.state.tasks[name].state in TERMINAL for name in self._tasks):
                return
            time.sleep(LOOK_S)

    def _print(self, lines: Iterable[TimedLine]) -> None:
        for line in lines:
            self._put(line.label, self._choice.text(line))

    def _is_past(self, part: LogPart) -> bool:
        return part.attempt < self._reader.state.tasks[part.task].attempts

    def _add_new_attempts(self) -> None:
        """Read the rest of an earlier attempt where it is now, and the log of the next one."""
        if self._choice.wanted.attempt:
            return
        known = {part.task: part.attempt for part in self.parts}
        state, chosen = self._reader.state, self._choice.wanted
        for part in self.parts:
            if state.tasks[part.task].attempts > part.attempt:
                path = earlier_log_path(part.task, part.attempt, part.rank)
                part.path = self._reader.directory / path
        for name in self._tasks:
            for number in range(known.get(name, 0) + 1, state.tasks[name].attempts + 1):
                wanted = Wanted(nodes=chosen.nodes, ranks=chosen.ranks, attempt=number)
                self.parts += log_parts(self._reader, self._changes, [name], wanted)


def _last_of_each(lines: Iterable[TimedLine], count: int) -> Iterator[TimedLine]:
    """Yield the last lines of each log, in order."""
    kept: dict[int, deque[tuple[int, TimedLine]]] = {}
    for number, line in enumerate(lines):
        kept.setdefault(line.order, deque(maxlen=count)).append((number, line))
    yield from (
        line for _, line in sorted((one for log in kept.values() for one in log), key=lambda one: one[0])
    )


def moment(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Convert a time, or a duration before now, to ns since 1970. Raises: click.BadParameter."""
    if value is None:
        return None
    from datetime import datetime

    from sflow_ctl.planner.numbers import NumberError, as_seconds

    text = value.strip()
    try:
        if text[:4].isdecimal() and text[4:5] == "-":
            return int(datetime.fromisoformat(text).timestamp() * 1e9)
        if ":" in text:
            clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") > 1 else "%H:%M").time()
            return int(datetime.combine(datetime.now().astimezone().date(), clock).timestamp() * 1e9)
        return time.time_ns() - int(as_seconds(text) * 1e9)
    except (ValueError, NumberError) as error:
        hint = 'a duration before now (90s, 10m), "2026-01-02 03:04:05", or today\'s 03:04'
        raise click.BadParameter(f'"{value}" is not {hint}') from error


def pattern(_context: click.Context, _option: click.Parameter, value: str | None) -> LinePattern | None:
    """Compile a regular expression, which may take long for no line. Raises: click.BadParameter."""
    if value is None:
        return None
    try:
        compiled = LinePattern(value)
    except re.error as error:
        raise click.BadParameter(f'"{value}" is not a regular expression: {error}') from error
    install_pattern_process()
    return compiled


def attempt(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Convert the number of an attempt; `all` is 0. Raises: click.BadParameter."""
    if value is None or value == "all":
        return None if value is None else 0
    if not value.isdecimal() or int(value) == 0:
        raise click.BadParameter(f'"{value}" is neither the number of an attempt, from 1, nor "all"')
    return int(value)
