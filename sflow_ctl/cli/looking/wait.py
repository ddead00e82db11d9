"""`sflow-ctl wait`: waits for a run or for tasks of it, and exits as they did."""

import time
from pathlib import Path

import click
import msgspec

from protocol.errors import ExitStatus, UsageError
from protocol.text.listing import listed
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.options.run_option import ended_text, output_dir_option, resume_lines, watch_run
from sflow_ctl.cli.options.run_words import run_and_tasks, seconds
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.report.looking.task_ends import Goal, can_no_longer_come, has_come, task_exit_status
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary, view_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.viewing.client import Ended, ViewerLink
from sflow_ctl.runtime.viewing.files import FileWatch
from sflow_ctl.runtime.viewing.messages import Change

LOOK_S = 0.5
LIVENESS_S = 2.0
"""Whether a controller lives is asked less often: of one on another host that makes a file."""
DEAD_FOR_S = 5.0
"""How long a controller must be dead before its run counts as dead."""
LAGGING_S = 30.0
"""How long the summary of a controller that has ended in order may take to appear: network file systems show new files late."""
SHOWN = 5


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


class _Answer(msgspec.Struct, frozen=True):
    is_met: bool
    status: int
    text: str
    is_timed_out: bool = False


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
    waiter = _Waiter(reader, names, goal)
    answer = waiter.wait(timeout_s)
    if as_json:
        _print_json(waiter, answer)
    else:
        print_line(answer.text, err=answer.is_timed_out)
    return answer.status


class _Waiter:
    """Looks at a run until what is waited for has come, or can no longer come."""

    def __init__(self, reader: RunReader, names: list[str], goal: Goal) -> None:
        self.reader = reader
        self.goal: Goal = goal
        self.names = names
        if goal == "ready" and not names:
            self.names = [
                task.name for task in reader.plan.tasks if task.is_service and not task.finally_when
            ]
            if not self.names:
                hint = "name tasks, or wait for its end"
                raise UsageError.of("no-services", f"run {reader.facts.run_id} has no services", hint=hint)
        self.ended: Summary | None = None
        self._look_at = 0.0
        self._dead_since: float | None = None

    def wait(self, timeout_s: float | None) -> _Answer:
        """Return the answer, at the latest after so many seconds. Raises: RunDirectoryError."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        watch: ViewerLink | FileWatch | None = None
        self.reader.refresh()
        try:
            while (answer := self._judge()) is None:
                left_s = LOOK_S if deadline is None else min(LOOK_S, deadline - time.monotonic())
                if left_s <= 0:
                    return self._timed_out(timeout_s or 0.0)
                if watch is None:
                    watch = watch_run(self.reader)[0]
                watch = self._receive(watch, left_s)
            return answer
        finally:
            if watch is not None:
                watch.close()

    def _receive(self, watch: ViewerLink | FileWatch, within_s: float) -> ViewerLink | FileWatch:
        """Take the news; return what to ask from now on: the files, once the controller does not answer any more."""
        began = time.monotonic()
        for event in watch.receive(within_s):
            if isinstance(event, Change):
                self.reader.state.apply(event.transition, event.wall_ns)
            elif isinstance(event, Ended):
                if isinstance(watch, ViewerLink):
                    watch.close()
                    return FileWatch(self.reader)
                time.sleep(max(0.0, within_s - (time.monotonic() - began)))
                break
        return watch

    def _judge(self) -> _Answer | None:
        """Return the answer if there is one now."""
        if self.ended is None:
            self.ended = self.reader.summary()
        if self.ended is not None:
            self.reader.state = view_of(self.ended, self.reader.plan)
        if self.names:
            answer = self._judge_tasks(self.reader.state)
            if answer is not None:
                return answer
        if self.ended is not None:
            text = ended_text(self.reader, self.ended)
            if not self.names:
                return _Answer(True, self.ended.exit_status, text)
            return _Answer(False, self.ended.exit_status or int(ExitStatus.RUN_FAILED), text)
        return self._judge_liveness()

    def _judge_tasks(self, state: RunView) -> _Answer | None:
        records = [state.tasks[name] for name in self.names]
        gone = [record for record in records if can_no_longer_come(record, self.goal)]
        if self.goal == "ready" and gone:
            status = task_exit_status(gone[0]) or int(ExitStatus.RUN_FAILED)
            return _Answer(
                False,
                status,
                f"{gone[0].name} {gone[0].state.value} before it was ready, exit status {status}",
            )
        if not all(has_come(record, self.goal) for record in records):
            return None
        if self.goal == "ready":
            return _Answer(True, int(ExitStatus.OK), f"ready: {listed(self.names, SHOWN)}")
        statuses = [task_exit_status(record) or 0 for record in records]
        status = next((one for one in statuses if one), 0)
        parts = [
            f"{record.name}: {record.state.value}, exit status {one}"
            for record, one in zip(records, statuses, strict=True)
        ]
        return _Answer(True, status, listed(parts, SHOWN, "; "))

    def _judge_liveness(self) -> _Answer | None:
        """Return the answer for a run whose controller is dead, also after another look a while later."""
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + LIVENESS_S
        status = self.reader.status()
        if status.liveness is not Liveness.DEAD:
            self._dead_since = None
            return None
        if self._dead_since is None:
            self._dead_since = now
        claim = read_claim(self.reader.directory / layout.CLAIM)
        patience_s = LAGGING_S if claim is not None and claim.is_released else DEAD_FOR_S
        if now - self._dead_since < patience_s:
            return None
        self.reader.refresh()
        self.reader.state.lose_live_tasks()
        text = "\n".join([f"{self.reader.facts.run_id} died: {status.text}", *resume_lines(self.reader)])
        return _Answer(False, int(ExitStatus.INFRASTRUCTURE), text)

    def _timed_out(self, timeout_s: float) -> _Answer:
        now = RunReader(self.reader.directory)  # a controller's answers do not say what services wait for
        now.refresh()
        records = [now.state.tasks[name] for name in self.names] or list(now.state.tasks.values())
        left = [record for record in records if not has_come(record, self.goal)]
        parts = [
            f"{record.name} is {record.state.value}" + (f", {record.waits_for}" if record.waits_for else "")
            for record in left
        ]
        what = "ended" if self.goal == "end" else "become ready"
        text = (
            f"{self.reader.facts.run_id} has not {what} within {timeout_s:g} s: {listed(parts, SHOWN, '; ')}"
        )
        return _Answer(False, int(ExitStatus.TIME_LIMIT), text, is_timed_out=True)


def _print_json(waiter: _Waiter, answer: _Answer) -> None:
    reader = waiter.reader
    records = [reader.state.tasks[name] for name in waiter.names]
    print_json(
        WaitReport(
            run_id=reader.facts.run_id,
            directory=str(reader.directory.absolute()),
            waited_for=waiter.goal,
            is_met=answer.is_met,
            is_timed_out=answer.is_timed_out,
            exit_status=answer.status,
            outcome=None if waiter.ended is None else waiter.ended.outcome,
            text=answer.text,
            tasks=tuple(
                WaitedTask(task=one.name, state=one.state, exit_status=task_exit_status(one))
                for one in records
            ),
        )
    )
