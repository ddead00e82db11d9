"""`sflow-ctl wait`: waits for a run or for tasks of it, and exits as they did."""

from pathlib import Path

import click
import msgspec

from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.options.run_option import ended_text, output_dir_option, resume_lines
from sflow_ctl.cli.options.run_words import run_and_tasks, seconds
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.report.looking.task_ends import Goal, task_exit_status
from sflow_ctl.runtime.viewing.waiting import Waited, Waiter


class WaitedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that was waited for."""

    task: str
    """The concrete task."""
    state: TaskState
    """Its state now."""
    exit_status: int | None
    """Its status as `wait` returns it; null while it may still run."""


class WaitReport(msgspec.Struct, frozen=True, kw_only=True):
    """`wait --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    waited_for: Goal
    """What `--for` said."""
    is_met: bool
    """The run or the tasks have ended, or are ready, as was waited for."""
    is_timed_out: bool
    """The `--timeout` was over before."""
    exit_status: int
    """Of `wait`."""
    outcome: Outcome | None
    """How the run ended; null while it has not, or has died."""
    text: str
    """A sentence."""
    tasks: tuple[WaitedTask, ...]
    """The tasks that were named; of a run that was waited for to be ready its services."""


@click.command()
@click.argument("words", nargs=-1, metavar="[RUN] [TASK]...", shell_complete=complete_words)
@click.option(
    "--for",
    "goal",
    type=click.Choice(["ready", "end"]),
    default="end",
    show_default=True,
    help="What to wait for. Jobs that have completed count as ready.",
)
@click.option(
    "--timeout",
    "timeout_s",
    metavar="TIME",
    callback=seconds,
    help="Give up after this time, e.g. 90 or 10m.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@output_dir_option
def wait(words: tuple[str, ...], goal: Goal, timeout_s: float | None, as_json: bool, output_dir: Path) -> int:
    """Wait for a run to end, or for tasks of it, and exit with the exit status of the run or the task.

    RUN is a run directory, a run id or the beginning of one. Default: the newest live run, else the newest. Of several tasks,
    the first in the order of the plan that did not complete decides. With --for ready the status is 0 once the tasks, or all
    services of the run, are ready, and that of the first one that ended before. A task that was lost with its node, and a run
    whose controller died, are 3. At the --timeout the status is 124.
    """
    reader, names = run_and_tasks(words, output_dir)
    waiter = Waiter(reader, names, goal)
    answer = waiter.wait(timeout_s)
    text = answer.text
    if waiter.ended is not None and not text:
        text = ended_text(reader, waiter.ended)
    elif answer.why == "died":
        text = "\n".join([text, *resume_lines(reader)])
    if as_json:
        _print_json(waiter, answer, text)
    else:
        print_line(text, err=answer.why == "timeout")
    return answer.status


def _print_json(waiter: Waiter, answer: Waited, text: str) -> None:
    reader = waiter.reader
    records = [reader.state.tasks[name] for name in waiter.names]
    print_json(
        WaitReport(
            run_id=reader.facts.run_id,
            directory=str(reader.directory.absolute()),
            waited_for=waiter.goal,
            is_met=answer.is_met,
            is_timed_out=answer.why == "timeout",
            exit_status=answer.status,
            outcome=None if waiter.ended is None else waiter.ended.outcome,
            text=text,
            tasks=tuple(
                WaitedTask(task=one.name, state=one.state, exit_status=task_exit_status(one))
                for one in records
            ),
        )
    )
