"""Waits for a run or for tasks of it: for their end, or until they are ready. Called by `sflow-ctl wait` and `Run.wait`.

What is waited for may come late to this machine, or never: the controller may have died, or be replaced. News come over its
socket while it answers, else from the files.
"""

import time
from collections.abc import Callable
from typing import Literal

import msgspec

from protocol.errors import ExitStatus, UsageError
from protocol.text.listing import listed
from sflow_ctl.core.states import TaskState
from sflow_ctl.report.looking.task_ends import Goal, can_no_longer_come, has_come, task_exit_status
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary, view_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import is_abandoned_for_good, read_claim
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.viewing.client import Ended, ViewerLink
from sflow_ctl.runtime.viewing.files import FileWatch, watch_run
from sflow_ctl.runtime.viewing.messages import Change

LOOK_S = 0.5
LIVENESS_S = 2.0
"""Whether a controller lives is asked less often: of one on another host that makes a file."""
DEAD_FOR_S = 5.0
"""How long a controller must be dead before its run counts as dead: another one may take the run over."""
DEAD_AT_TIMEOUT_S = 1.0
"""The same where the time to wait is over."""
LAGGING_S = 30.0
"""How long the summary of a controller that has ended in order may take to appear: network file systems show new files late."""
SHOWN = 5
Why = Literal["come", "run-ended", "task-ended", "died", "timeout"]


class Waited(msgspec.Struct, frozen=True):
    """How the wait was over."""

    why: Why
    """`come`: what was waited for; else why it has not."""
    status: int
    """The exit status of the run or the task, or that of `wait`."""
    text: str
    """A sentence; empty where the run has ended, whose summary says more."""

    @property
    def is_met(self) -> bool:
        """Return whether what was waited for has come."""
        return self.why == "come"


class Waiter:
    """Looks at a run until what is waited for has come, or can no longer come."""

    def __init__(self, reader: RunReader, names: list[str], goal: Goal) -> None:
        """Without names it waits for the run; for that to be ready, for all of its services.

        Raises: UsageError if it has none.
        """
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

    def wait(self, timeout_s: float | None, show: Callable[[RunView], None] | None = None) -> Waited:
        """Return the answer, at the latest after so many seconds. Raises: RunDirectoryError.

        Args:
            timeout_s: None means without end.
            show: Called with the state now and then, at least every `LOOK_S`.
        """
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
                if show is not None:
                    show(self.reader.state)
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

    def _judge(self) -> Waited | None:
        """Return the answer if there is one now."""
        if self.ended is None:
            self.ended = self.reader.summary()
        if self.ended is not None:
            self.reader.state = view_of(self.ended, self.reader.plan)
        answer = self._judge_tasks(self.reader.state) if self.names else None
        if answer is not None and (self.goal == "end" or self.ended is not None or not self._is_dead()):
            return answer
        if self.ended is not None:
            if not self.names:
                return Waited("come", self.ended.exit_status, "")
            return Waited("run-ended", self.ended.exit_status or int(ExitStatus.RUN_FAILED), "")
        return self._judge_liveness()

    def _judge_tasks(self, state: RunView) -> Waited | None:
        records = [state.tasks[name] for name in self.names]
        gone = next((record for record in records if can_no_longer_come(record, self.goal)), None)
        if gone is not None:
            status = task_exit_status(gone) or int(ExitStatus.RUN_FAILED)
            return Waited(
                "task-ended", status, f"{gone.name} is not ready: {gone.state.value}, exit status {status}"
            )
        if not all(has_come(record, self.goal) for record in records):
            return None
        if self.goal == "ready":
            return Waited("come", int(ExitStatus.OK), f"ready: {listed(self.names, SHOWN)}")
        statuses = [task_exit_status(record) or 0 for record in records]
        status = next((one for one in statuses if one), 0)
        parts = [
            f"{record.name}: {record.state.value}, exit status {one}"
            for record, one in zip(records, statuses, strict=True)
        ]
        return Waited("come", status, listed(parts, SHOWN, "; "))

    def _is_dead(self) -> bool:
        """Return whether the controller of a run that has not ended is gone now: a task that was ready is not."""
        is_ready = any(self.reader.state.tasks[name].state is TaskState.READY for name in self.names)
        return is_ready and self.reader.status().liveness is Liveness.DEAD

    def _judge_liveness(self) -> Waited | None:
        """Return the answer for a run whose controller is dead, also after another look a while later."""
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + LIVENESS_S
        if self.reader.status().liveness is not Liveness.DEAD:
            self._dead_since = None
            return None
        if self._dead_since is None:
            self._dead_since = now
        path = self.reader.directory / layout.CLAIM
        claim = read_claim(path)
        is_released = claim is not None and claim.is_released
        if now - self._dead_since < (LAGGING_S if is_released else DEAD_FOR_S):
            self._look_at = min(self._look_at, self._dead_since + DEAD_FOR_S)
            return self._died() if not is_released and is_abandoned_for_good(path) else None
        return self._died()

    def _died(self) -> Waited:
        self.reader.refresh()
        self.reader.lose_live_tasks()
        text = f"{self.reader.facts.run_id} died: {self.reader.status().text}"
        return Waited("died", int(ExitStatus.INFRASTRUCTURE), text)

    def _timed_out(self, timeout_s: float) -> Waited:
        if self._dead_since is not None and time.monotonic() - self._dead_since >= DEAD_AT_TIMEOUT_S:
            return self._died()
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
        return Waited("timeout", int(ExitStatus.TIME_LIMIT), text)
