"""`sflow-ctl events`: what has happened in a run, from its journal, as lines or as JSON."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from protocol.errors import ExitStatus
from sflow_ctl.cli.looking.event_lines import TYPES, USUAL, event_of
from sflow_ctl.cli.options.completing import complete_runs, complete_tasks
from sflow_ctl.cli.options.run_option import chosen_tasks, output_dir_option
from sflow_ctl.cli.terminal.lines import json_line, print_line
from sflow_ctl.runtime.journal.entry import Entry
from sflow_ctl.runtime.record.reader import Liveness, RunReader, find_run
from sflow_ctl.runtime.viewing.journal_feed import JournalFeed

LOOK_S = 0.2
LIVENESS_S = 2.0


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `events --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    seq: int
    """The number of the line of the journal, from 1."""
    wall_ns: int
    """Wall time in ns since 1970."""
    type: str
    """One of the types that `--type` knows."""
    task: str | None
    """The task that it is about."""
    text: str
    """The sentence for people."""
    entry: Any
    """The entry of the journal, as `docs/reference/events.md` describes it."""


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option("-f", "--follow", "is_following", is_flag=True, help="Keep printing until the run ends.")
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", help="Print only the last N events.")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="TASK",
    shell_complete=complete_tasks,
    help="Only events of this task; repeatable.",
)
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice([*TYPES, "all"]),
    help=f"Only events of this type; repeatable. Default: {', '.join(USUAL)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each event.")
@output_dir_option
def events(
    run: str | None,
    is_following: bool,
    lines: int | None,
    tasks: tuple[str, ...],
    types: tuple[str, ...],
    as_json: bool,
    output_dir: Path,
) -> int:
    """Print what has happened in a run, in order: changes of state, what services wait for, nodes, stops.

    RUN is a run directory, a run id or the beginning of one. Default: the newest live run, else the newest. TASK is a task's
    name, or a pattern such as "decode_*"; the name of a replicated task selects all of its replicas.
    """
    reader = RunReader(find_run(run, output_dir, prefers_live=True))
    printer = EventPrinter(reader, set(chosen_tasks(reader, tasks)), _chosen_types(types), as_json=as_json)
    feed = JournalFeed(reader.directory)
    try:
        first = printer.lines(feed.entries())
        for line in first if lines is None else deque(first, maxlen=lines):
            print_line(line)
        if is_following:
            _follow(reader, feed, printer)
    except KeyboardInterrupt:
        if not is_following:
            raise
    return int(ExitStatus.OK)


def _chosen_types(types: tuple[str, ...]) -> frozenset[str]:
    return frozenset(TYPES if "all" in types else types or USUAL)


def _follow(reader: RunReader, feed: JournalFeed, printer: "EventPrinter") -> None:
    """Print new events until the run has ended, or its controller is dead."""
    look_at, is_over = 0.0, False
    while True:
        now = time.monotonic()
        if now >= look_at:  # before the journal is read: it is complete if the run was over
            look_at = now + LIVENESS_S
            is_over = reader.status().liveness is not Liveness.RUNNING
        is_over = is_over or reader.summary() is not None
        for line in printer.lines(feed.entries()):
            print_line(line)
        if is_over:
            return
        time.sleep(LOOK_S)


class EventPrinter:
    """Chooses and writes events."""

    def __init__(
        self, reader: RunReader, tasks: set[str], types: frozenset[str] = frozenset(USUAL), *, as_json: bool
    ) -> None:
        """Without `tasks`, events of all are chosen."""
        self._plan = reader.plan
        self._tasks = tasks
        self._types = types
        self._as_json = as_json

    def lines(self, entries: Iterator[Entry]) -> Iterator[str]:
        """Yield the lines of the entries that were asked for."""
        for entry in entries:
            event = event_of(entry, self._plan)
            if event.type not in self._types or (self._tasks and event.task not in self._tasks):
                continue
            if self._as_json:
                line = EventLine(
                    seq=entry.seq,
                    wall_ns=entry.wall_ns,
                    type=event.type,
                    task=event.task,
                    text=event.text,
                    entry=entry,
                )
                yield json_line(line)
            else:
                yield f"{_clock(entry.wall_ns)}  {event.text}"


def _clock(wall_ns: int) -> str:
    """Return local date and time with milliseconds."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03}"
