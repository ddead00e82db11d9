"""`sflow-ctl attach`: follows a run from another terminal; it cannot change or stop anything."""

import threading
import time
from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from protocol.ids import AttemptId, RankId
from sflow_ctl.cli.closing import print_cause
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.options.run_option import (
    changed_lines,
    ended_text,
    output_dir_option,
    resume_lines,
    state_text,
)
from sflow_ctl.cli.options.workflow_options import only_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.console import Console
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.core.states import LIVE, TaskState
from sflow_ctl.planner.prune import showing_only
from sflow_ctl.report.tables import closing_table, status_table
from sflow_ctl.runtime.record.reader import Liveness, RunReader, find_run
from sflow_ctl.runtime.viewing.client import Current, Ended, LogOutput, OutputEnded, ViewerLink, ViewEvent
from sflow_ctl.runtime.viewing.files import FileWatch, watch_run
from sflow_ctl.runtime.viewing.messages import Change

RECENT_LINES = 10
"""Lines printed of each task that runs when we attach."""
MAX_FOLLOWED = 200
"""Tasks whose output is shown at once; more would be unreadable, and the controller allows 256."""
WAIT_S = 0.5
SUMMARY_WITHIN_S = 10.0
"""The controller writes the summary after it has said goodbye to its viewers."""


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option("-q", "--quiet", is_flag=True, help="Do not print the tasks' output, only state changes.")
@click.option(
    "--tui",
    is_flag=True,
    help="Show it on the whole screen: tasks, nodes, graph, logs. Also of a run that ended.",
)
@only_option
@output_dir_option
def attach(run: str | None, quiet: bool, tui: bool, only: tuple[str, ...], output_dir: Path) -> int:
    """Follow a run from another terminal until it ends, and exit with its exit status.

    RUN is a run directory, a run id or the beginning of one. Default: the newest live run, else the newest. Prints the
    last lines of each running task first. Ctrl-C detaches; the run keeps going.
    """
    if quiet and only:
        raise UsageError.of("options", "--quiet prints no output, --only that of some tasks", hint="use one")
    reader = RunReader(find_run(run, output_dir, prefers_live=True))
    if tui:
        from sflow_ctl.cli.tui.start import show_run  # textual is an extra

        show_run(reader)
        return int(ExitStatus.OK) if (ended := reader.summary()) is None else ended.exit_status
    reader.begin_from_snapshot()
    reader.refresh()
    plan = showing_only(reader.plan, only) if only else reader.plan
    if reader.summary() is not None or reader.status().liveness is Liveness.DEAD:
        return say_end(reader)
    watch, how = watch_run(reader)
    if isinstance(watch, FileWatch) and reader.status().liveness is Liveness.UNKNOWN:
        return say_end(reader)
    print_line(f"Attached to {reader.facts.run_id} {how}. Ctrl-C detaches; the run keeps going.")
    for line in changed_lines(reader.facts, display_path(reader.directory)):
        print_line(line)
    print_table(status_table(reader.state, time.time_ns()))
    if not quiet and any(record.state in LIVE for record in reader.state.tasks.values()):
        print_line(f"The last {RECENT_LINES} lines of each running task come first, then what is new.")
    elapsed_s = max(0.0, (time.time_ns() - reader.facts.started_wall_ns) / 1e9)
    console = Console(plan, is_quiet=quiet, elapsed_s=elapsed_s)
    console.start()
    try:
        _Follower(reader, watch, console, quiet).follow_to_end()
        console.close()
        return say_end(reader)
    except KeyboardInterrupt:
        console.close(0.5)
        print_line("Detached; the run keeps going.", err=True)
        return int(ExitStatus.OK)
    finally:
        watch.close()


def say_end(reader: RunReader) -> int:
    """Print the closing table and how the run ended; return its exit status."""
    deadline = time.monotonic() + SUMMARY_WITHIN_S
    while (status := reader.status()).liveness is Liveness.RUNNING and time.monotonic() < deadline:
        time.sleep(0.05)
    ended = reader.summary()  # now: one that is written between two looks must not be taken for none
    reader.refresh()
    if ended is None and status.liveness is Liveness.DEAD:
        reader.lose_live_tasks()
    print_table(closing_table(reader.state))
    if ended is None:
        print_line(state_text(reader, None))
        if status.liveness is Liveness.DEAD:
            print_line("\n".join(resume_lines(reader)))
        return int(ExitStatus.INFRASTRUCTURE)
    print_cause(reader.state, ended, reader.directory)
    print_line(ended_text(reader, ended))
    return ended.exit_status


class _Follower:
    """Passes the changes and logs of a run to a console, until the run ends."""

    def __init__(
        self, reader: RunReader, watch: ViewerLink | FileWatch, console: Console, is_quiet: bool
    ) -> None:
        self._reader = reader
        self._watch = watch
        self._console = console
        self._is_quiet = is_quiet
        self._is_current = False
        self._followed: set[RankId] = set()
        self._room = threading.Event()
        self._has_ended = False
        console.on_room = self._room.set

    def follow_to_end(self) -> None:
        """Return when the run has ended, its controller has died, or nothing more can be known of it."""
        while not self._has_ended:
            events = self._watch.receive(WAIT_S)
            for event in events:
                self._take(event)
            if not events and self._reader.status().liveness in (Liveness.ENDED, Liveness.DEAD):
                self._has_ended = True

    def _take(self, event: ViewEvent) -> None:
        if isinstance(event, Change):
            self._take_change(event)
        elif isinstance(event, Current):
            self._is_current = True
            for record in self._reader.state.tasks.values():
                ago_ns = time.time_ns() - (record.started_wall_ns or time.time_ns())
                self._console.begin_with(record.name, record.state, max(0, ago_ns) / 1e9)
                self._console.waiting(record.name, record.waits_for)
                if record.state in LIVE and record.state is not TaskState.STARTING:
                    self._follow(AttemptId(record.name, record.attempts), RECENT_LINES)
        elif isinstance(event, LogOutput):
            self._wait_for_room()
            if event.skipped_lines:
                self._console.skipped(_label(event.rank), event.skipped_lines, event.path)
            self._console.output(_label(event.rank), event.data)
        elif isinstance(event, OutputEnded):
            self._followed.discard(event.rank)
            self._console.output_ended(_label(event.rank))
        elif isinstance(event, Ended):
            self._take_end(event)

    def _take_change(self, change: Change) -> None:
        transition = change.transition
        self._reader.state.apply(transition, change.wall_ns)
        if self._is_current:
            self._console.transition(transition)
            if transition.new is TaskState.RUNNING:
                self._follow(AttemptId(transition.task, transition.attempt), -1)

    def _follow(self, attempt: AttemptId, lines: int) -> None:
        """Follow a task's log from its last `lines` lines on; from the start if `lines` is -1."""
        rank = RankId(attempt, 0)
        if self._is_quiet or rank in self._followed or not self._console.shows(attempt.task):
            return
        if len(self._followed) >= MAX_FOLLOWED:
            return
        self._followed.add(rank)
        self._watch.follow(rank, max(lines, 0), 0 if lines < 0 else None)

    def _take_end(self, event: Ended) -> None:
        is_over = self._reader.status().liveness is not Liveness.RUNNING
        if event.is_orderly or is_over or isinstance(self._watch, FileWatch):
            self._has_ended = True
            return
        self._console.say("-- the controller does not answer; following the run's files")
        followed = list(self._followed)
        self._watch.close()
        self._watch = FileWatch(self._reader)
        for rank in followed:
            self._watch.follow(rank, 0)

    def _wait_for_room(self) -> None:
        """Wait for the terminal, which sets the pace; if it is too slow, the controller skips output."""
        while self._console.room() <= 0:
            self._room.wait(WAIT_S)
            self._room.clear()


def _label(rank: RankId) -> str:
    return rank.attempt.task if rank.rank == 0 else f"{rank.attempt.task}.{rank.rank}"
