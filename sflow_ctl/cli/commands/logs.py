"""`sflow-ctl logs`: print and follow the logs of tasks, during a run and after."""

import os
import sys
from pathlib import Path
from typing import Any, assert_never

import click

from protocol.errors import ExitStatus, UsageError
from protocol.ids import AttemptId, RankId
from protocol.text.counted import counted
from protocol.text.line_pattern import LinePattern
from sflow_ctl.cli.looking.chosen_lines import Choice, ChosenLines, attempt, moment, pattern
from sflow_ctl.cli.options.completing import complete_runs, complete_words
from sflow_ctl.cli.options.query_option import query_option, tasks_of_query
from sflow_ctl.cli.options.run_option import chosen_tasks, output_dir_option
from sflow_ctl.cli.options.run_words import run_and_tasks
from sflow_ctl.cli.options.workflow_options import only_option
from sflow_ctl.cli.terminal.line_prefix import LinePrefixer, prefix_width
from sflow_ctl.cli.terminal.lines import OutputLostError, discard_stdout, print_line
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState, Transition
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.not_started import not_started
from sflow_ctl.runtime.logs.cursor import Cursor, file_log
from sflow_ctl.runtime.record.reader import RunReader, find_run
from sflow_ctl.runtime.viewing.client import Current, Ended, LogOutput, OutputEnded, ViewerLink, ViewEvent
from sflow_ctl.runtime.viewing.files import FileWatch, watch_run
from sflow_ctl.runtime.viewing.log_parts import Wanted
from sflow_ctl.runtime.viewing.messages import Change

READ_BYTES = 1024 * 1024
WAIT_S = 0.5
MAX_NOTES = 20
"""About tasks without a log."""


@click.command()
@click.option(
    "--run",
    metavar="RUN",
    shell_complete=complete_runs,
    help="Run directory, run id or the beginning of one. Default: the newest live run, else the newest.",
)
@click.option(
    "-f",
    "--follow",
    "is_following",
    is_flag=True,
    help="Keep printing as the logs grow, until the tasks end.",
)
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), metavar="N", help="Print only the last N lines of each log."
)
@click.option(
    "--since",
    "since_ns",
    metavar="TIME",
    callback=moment,
    help='Only lines that may have come since then: 10m (before now), 14:30, "2026-01-02 14:30:00".',
)
@click.option("--until", "until_ns", metavar="TIME", callback=moment, help="Only lines up to then.")
@click.option(
    "--grep",
    "wanted",
    metavar="REGEX",
    callback=pattern,
    help="Only lines in which REGEX is found; (?i) ignores case.",
)
@click.option(
    "--node", "nodes", multiple=True, metavar="NODE", help="Only processes on this node; repeatable."
)
@click.option(
    "--rank",
    "ranks",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="Only this process of tasks with several, from 0; repeatable.",
)
@click.option(
    "--attempt",
    "attempt_number",
    metavar="N",
    callback=attempt,
    help="The attempt, from 1, or all. Default: the newest.",
)
@click.option(
    "-t",
    "--timestamps",
    "has_times",
    is_flag=True,
    help="Begin lines with their time; after > the line came then or later.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each line.")
@click.option(
    "--raw",
    "is_raw",
    is_flag=True,
    help="Print the bytes of the logs unchanged, on a terminal too: escape sequences in them take effect.",
)
@query_option
@only_option
@output_dir_option
@click.argument("tasks", nargs=-1, metavar="[RUN] [TASK]...", shell_complete=complete_words)
def logs(
    run: str | None,
    is_following: bool,
    lines: int | None,
    is_raw: bool,
    output_dir: Path,
    only: tuple[str, ...],
    queries: tuple[str, ...],
    tasks: tuple[str, ...],
    **chosen: Any,
) -> int:
    """Print the logs of tasks, during a run or after it. Default: all tasks.

    RUN is a run id or the beginning of one, and may be left out: see --run. TASK is a task's name, or a pattern such as
    "decode_*"; the name of a replicated task selects all its replicas. Lines of several tasks are prefixed with the task's
    name, and come in the order of their times where these are known: a log is what a program prints, so the time of a line is
    the one that it begins with, else that of the line before it, else the start of its attempt. On a terminal, escape
    sequences other than colours are left out; a pipe or file gets the bytes of the log.
    """
    reader, named = _run_and_tasks(run, tasks, output_dir)
    changes = reader.refresh()
    named = [*named, *chosen_tasks(reader, only)]
    names = list(dict.fromkeys(named)) or [task.name for task in reader.plan.tasks]
    if queries:
        names = tasks_of_query(reader, queries, names)
        if not names:
            return int(ExitStatus.OK)
    if named:
        _say_what_has_not_started(reader, names)
    choice = _choice(**chosen)
    try:
        if len(names) == 1 and choice is None:
            _print_one(reader, names[0], lines, is_following, _Printer(is_prefixed=False, is_raw=is_raw))
        else:
            _print_chosen(
                reader, changes, names, choice or Choice(wanted=Wanted()), lines, is_following, is_raw
            )
    except KeyboardInterrupt:
        if not is_following:
            raise
    return int(ExitStatus.OK)


def _run_and_tasks(run: str | None, words: tuple[str, ...], output_dir: Path) -> tuple[RunReader, list[str]]:
    """Return the run, which `--run` or the first word names, and the tasks that the words name. Raises: UsageError."""
    if run is None and words:
        try:
            return run_and_tasks(words, output_dir)
        except UsageError as error:
            if error.findings[0].code != "no-such-run":
                raise
    reader = RunReader(find_run(run, output_dir, prefers_live=True))
    return reader, chosen_tasks(reader, words)


def _choice(
    since_ns: int | None,
    until_ns: int | None,
    wanted: LinePattern | None,
    nodes: tuple[str, ...],
    ranks: tuple[int, ...],
    attempt_number: int | None,
    has_times: bool,
    as_json: bool,
) -> Choice | None:
    """Return what the options choose; None if there are none."""
    if (since_ns, until_ns, wanted, nodes, ranks, attempt_number, has_times, as_json) == (
        None,
        None,
        None,
        (),
        (),
        None,
        False,
        False,
    ):
        return None
    return Choice(
        wanted=Wanted(nodes=nodes, ranks=ranks, attempt=attempt_number),
        since_ns=since_ns,
        until_ns=until_ns,
        pattern=wanted,
        has_times=has_times,
        as_json=as_json,
    )


def _print_one(
    reader: RunReader, task: str, lines: int | None, is_following: bool, printer: "_Printer"
) -> None:
    place = _print_log(reader, task, lines, printer)
    if is_following:
        _follow(reader, {task: place}, printer)
    printer.finish()


def _print_chosen(
    reader: RunReader,
    changes: list[Change],
    names: list[str],
    choice: Choice,
    lines: int | None,
    is_following: bool,
    is_raw: bool,
) -> None:
    labels: list[str] = []
    width = prefix_width(task for task in reader.plan.tasks if task.name in set(names))
    printer = _Printer(is_prefixed=True, is_raw=is_raw, width=width)
    chosen = ChosenLines(reader, changes, names, choice, lambda label, data: printer.put(label, data))
    labels += {part.label for part in chosen.parts}
    if choice.as_json or (len(labels) == 1 and len(names) == 1):
        printer = _Printer(is_prefixed=False, is_raw=is_raw)
    chosen.print_all(lines)
    if is_following:
        chosen.follow()
    printer.finish()
    if choice.pattern is not None and choice.pattern.problem:
        print_line(f"warning: {choice.pattern.problem}: lines that match may be missing", err=True)


def _say_what_has_not_started(reader: RunReader, chosen: list[str]) -> None:
    without = [
        task for task in chosen if _is_empty(reader.log_path(task))
    ]  # logs are made before tasks start
    for task in without[:MAX_NOTES]:
        note = not_started(reader.state, task)
        if note is not None:
            print_line(note, err=True)


def _is_empty(log: Path) -> bool:
    try:
        return log.stat().st_size == 0
    except OSError:
        return True


class _Printer:
    """Prefixed lines for several tasks, lines without prefix for one. Of one task a pipe or file gets the bytes."""

    def __init__(self, *, is_prefixed: bool, is_raw: bool, width: int = 0) -> None:
        is_terminal = sys.stdout.isatty()
        colours = is_terminal and not os.environ.get("NO_COLOR")
        is_tamed = is_terminal and not is_raw
        self._prefixer = (
            LinePrefixer(
                is_terminal=is_tamed,
                colours=colours,
                is_prefixed=is_prefixed,
                width=width if is_terminal else 0,
            )
            if is_prefixed or is_tamed
            else None
        )

    def put(self, task: str, data: bytes) -> None:
        """Print bytes of a task's log."""
        _write(data if self._prefixer is None else self._prefixer.add(task, data))

    def ended(self, task: str) -> None:
        """Finish the task's last line, if lines have prefixes."""
        if self._prefixer is not None:
            _write(self._prefixer.end(task))

    def finish(self) -> None:
        """Finish every line."""
        if self._prefixer is not None:
            _write(self._prefixer.end_all())


def _write(data: bytes) -> None:
    view = memoryview(SECRETS.mask.raw(data))
    try:
        while view:
            view = view[os.write(1, view) :]
    except OSError as error:
        discard_stdout()
        raise OutputLostError(error) from error


def _print_log(reader: RunReader, task: str, lines: int | None, printer: _Printer) -> int:
    """Print the existing log; return the position at its end."""
    try:
        cursor = Cursor(file_log(reader.log_path(task), task))
        if lines is not None:
            cursor.seek_to_last_lines(lines)
        while (piece := cursor.read(READ_BYTES)) is not None:
            printer.put(task, piece.data)
    except FileNotFoundError:
        return 0  # it has not started
    cursor.close()
    record = reader.state.tasks.get(task)
    if record is None or record.state not in LIVE:
        printer.ended(task)
    return cursor.offset


def _follow(reader: RunReader, places: dict[str, int], printer: _Printer) -> None:
    """Print new output, until the chosen tasks or the run have ended."""
    if reader.summary() is not None:
        return
    watch, _ = watch_run(reader)
    try:
        _Following(reader, watch, printer).run(places)
    finally:
        watch.close()


class _Following:
    """Logs of tasks that are printed as they grow."""

    def __init__(self, reader: RunReader, watch: ViewerLink | FileWatch, printer: _Printer) -> None:
        self._reader = reader
        self._watch = watch
        self._printer = printer
        self._open_tasks: set[str] = set()
        self._followed: set[RankId] = set()
        self._has_run_ended = False

    def run(self, places: dict[str, int]) -> None:
        """Print from these places on, by task, until the tasks or the run have ended."""
        self._open_tasks = {task for task in places if not _is_over(self._reader, task)}
        for task in self._open_tasks:
            record = self._reader.state.tasks[task]
            if record.state in LIVE:
                self._begin(RankId(AttemptId(task, record.attempts), 0), places[task])
        while (self._open_tasks or self._followed) and not self._has_run_ended:
            for event in self._watch.receive(WAIT_S):
                self._take(event)

    def _begin(self, rank: RankId, place: int) -> None:
        self._followed.add(rank)
        self._watch.follow(rank, 0, place)

    def _take(self, event: ViewEvent) -> None:
        match event:
            case Change(transition=transition):
                self._reader.state.apply(transition, event.wall_ns)
                self._changed(transition)
            case LogOutput():
                if event.skipped_lines:
                    note = (
                        f"... {counted(event.skipped_lines, 'line')} skipped; the log has all: {event.path}"
                    )
                    print_line(note, err=True)
                self._printer.put(event.rank.attempt.task, event.data)
            case OutputEnded(rank=rank):
                self._followed.discard(rank)
                self._printer.ended(rank.attempt.task)
            case Ended():
                self._has_run_ended = True
            case Current():
                pass
            case _:
                assert_never(event)

    def _changed(self, transition: Transition) -> None:
        """Follow an attempt that runs now; stop waiting for a task that has ended."""
        task = transition.task
        rank = RankId(AttemptId(task, transition.attempt), 0)
        if transition.new is TaskState.RUNNING and task in self._open_tasks and rank not in self._followed:
            self._begin(rank, 0)
        if _is_over(self._reader, task):
            self._open_tasks.discard(task)


def _is_over(reader: RunReader, task: str) -> bool:
    record = reader.state.tasks.get(task)
    return record is not None and record.state in TERMINAL
