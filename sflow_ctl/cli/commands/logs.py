"""`sflow-ctl logs`: print and follow the logs of tasks, during a run and after."""

import os
import sys
from pathlib import Path

import click

from protocol.errors import ExitStatus
from protocol.ids import AttemptId, RankId
from sflow_ctl.cli.options.run_option import chosen_tasks, output_dir_option, watch_run
from sflow_ctl.cli.terminal.line_prefix import LinePrefixer
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.runtime.logs.cursor import Cursor
from sflow_ctl.runtime.record.reader import RunReader, file_log, find_run
from sflow_ctl.runtime.viewing.client import Ended, LogOutput, OutputEnded
from sflow_ctl.runtime.viewing.messages import Change

READ_BYTES = 1024 * 1024
WAIT_S = 0.5


@click.command()
@click.option(
    "--run", metavar="RUN", help="Run directory, run id or the beginning of one. Default: the newest run."
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
@output_dir_option
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
def logs(
    run: str | None, is_following: bool, lines: int | None, output_dir: Path, tasks: tuple[str, ...]
) -> int:
    """Print the logs of tasks, during a run or after it. Default: all tasks.

    TASK is a task's name; the name of a replicated task selects all its replicas. Lines of several tasks are prefixed
    with the task's name.
    """
    reader = RunReader(find_run(run, output_dir))
    reader.refresh()
    chosen = chosen_tasks(reader, tasks) or [task.name for task in reader.plan.tasks]
    printer = _Printer(is_prefixed=len(chosen) > 1)
    try:
        places = {task: _print_log(reader, task, lines, printer) for task in chosen}
        if is_following:
            _follow(reader, places, printer)
        printer.finish()
    except BrokenPipeError:
        # Whoever reads has seen enough. The interpreter flushes at exit: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        if not is_following:
            raise
    return int(ExitStatus.OK)


class _Printer:
    """Bytes as they are for one task, prefixed lines for several."""

    def __init__(self, *, is_prefixed: bool) -> None:
        is_terminal = sys.stdout.isatty()
        colours = is_terminal and not os.environ.get("NO_COLOR")
        self._prefixer = LinePrefixer(is_terminal=is_terminal, colours=colours) if is_prefixed else None

    def put(self, task: str, data: bytes) -> None:
        """Prints what belongs to a task's log."""
        _write(data if self._prefixer is None else self._prefixer.add(task, data))

    def ended(self, task: str) -> None:
        """Finishes the task's last line, if lines carry names."""
        if self._prefixer is not None:
            _write(self._prefixer.end(task))

    def finish(self) -> None:
        """Finishes every line."""
        if self._prefixer is not None:
            _write(self._prefixer.end_all())


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _print_log(reader: RunReader, task: str, lines: int | None, printer: _Printer) -> int:
    """Prints what there is; returns where it stopped."""
    try:
        cursor = Cursor(file_log(reader.log_path(task), task))
        if lines is not None:
            cursor.seek_to_last_lines(lines)
        while (piece := cursor.read(READ_BYTES)) is not None:
            printer.put(task, piece.data)
    except OSError:
        return 0  # it has not started
    cursor.close()
    record = reader.state.tasks.get(task)
    if record is None or record.state not in LIVE:
        printer.ended(task)
    return cursor.offset


def _follow(reader: RunReader, places: dict[str, int], printer: _Printer) -> None:
    """Prints what comes, until the chosen tasks or the run have ended."""
    if reader.summary() is not None:
        return
    watch, _ = watch_run(reader)
    open_tasks = {task for task in places if not _is_over(reader, task)}
    followed: set[RankId] = set()
    try:
        for task in open_tasks:
            record = reader.state.tasks[task]
            if record.state in LIVE:
                rank = RankId(AttemptId(task, record.attempts), 0)
                followed.add(rank)
                watch.follow(rank, 0, places[task])
        while open_tasks or followed:
            for event in watch.receive(WAIT_S):
                if isinstance(event, Change):
                    reader.state.apply(event.transition, event.wall_ns)
                    task = event.transition.task
                    rank = RankId(AttemptId(task, event.transition.attempt), 0)
                    is_new = event.transition.new is TaskState.RUNNING and rank not in followed
                    if is_new and task in open_tasks:
                        followed.add(rank)
                        watch.follow(rank, 0, 0)
                    if _is_over(reader, task):
                        open_tasks.discard(task)
                elif isinstance(event, LogOutput):
                    if event.skipped_lines:
                        note = f"... {event.skipped_lines} lines skipped, all of them are in {event.path}"
                        print_line(note, err=True)
                    printer.put(event.rank.attempt.task, event.data)
                elif isinstance(event, OutputEnded):
                    followed.discard(event.rank)
                    printer.ended(event.rank.attempt.task)
                elif isinstance(event, Ended):
                    return
    finally:
        watch.close()


def _is_over(reader: RunReader, task: str) -> bool:
    record = reader.state.tasks.get(task)
    return record is not None and record.state in TERMINAL
