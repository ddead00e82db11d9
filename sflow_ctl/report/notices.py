"""What a run tells of its course, and when: ready, the first failure, the end. Pure; `runtime/notices` sends it."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

import msgspec

from sflow_ctl.core.states import TERMINAL, Outcome, TaskState, Transition
from sflow_ctl.plan.parts.notices import OF_TASKS, NoticeEvent, PlannedNotice
from sflow_ctl.report.run_view import FAILURES, RunView
from sflow_ctl.report.summary import Summary
from sflow_ctl.report.words import duration_text, outcome_text

_READY = (TaskState.READY, TaskState.COMPLETED)


class RunNotice(msgspec.Struct, frozen=True, kw_only=True):
    """What a command finds on its standard input and a webhook in its body."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    event: NoticeEvent
    """What has happened."""
    text: str
    """The same, as a sentence."""
    run_id: str
    """The id of the run."""
    workflow: str
    """The name of the workflow."""
    directory: str
    """The run directory, absolute."""
    host: str
    """The host of the controller."""
    task: str | None = None
    """The task that has failed first, or the one that the event is about."""
    outcome: Outcome | None = None
    """How the run ended."""
    exit_status: int | None = None
    """Of `sflow-ctl run`."""
    duration_s: float | None = None
    """How long the run took."""
    counts: dict[str, int] = {}
    """At the end: the number of tasks in each state."""


def is_wanted(notice: PlannedNotice, message: RunNotice) -> bool:
    """Return whether a notice is about what has happened."""
    words = {message.event}
    if message.event == "end":
        words.add("run_succeeded" if message.exit_status == 0 else "run_failed")
    if message.event not in OF_TASKS:
        return not words.isdisjoint(notice.on)
    if message.event != "progress_stalled":
        words.add("task_finished")
    name = message.task or ""
    return not words.isdisjoint(notice.on) and any(fnmatchcase(name, pattern) for pattern in notice.tasks)


class Course:
    """Notes changes of state, and says for which of them notices are sent. Each event happens once in a run."""

    def __init__(
        self, state: RunView, run_id: str, directory: str, host: str, *, tells_tasks: bool = False
    ) -> None:
        """`state` is what a controller before has left: its notices have been sent. `tells_tasks`: also of each task's end."""
        self._tells_tasks = tells_tasks
        plan = state.plan
        self._base = RunNotice(
            event="end", text="", run_id=run_id, workflow=plan.workflow, directory=directory, host=host
        )
        services = {task.name for task in plan.tasks if task.is_service and task.finally_when is None}
        self._unready = {name for name in services if state.tasks[name].state not in _READY}
        self._counts = {one.name for one in plan.tasks if one.on_failure != "continue" and one.quorum is None}
        self._has_failed = any(
            record.state in FAILURES for record in state.tasks.values() if record.name in self._counts
        )

    def note(self, transition: Transition) -> Iterator[RunNotice]:
        """Take in a change; yield the notices of it."""
        name, new = transition.task, transition.new
        if new in _READY and name in self._unready:
            self._unready.discard(name)
            if not self._unready:
                text = f"{self._base.workflow} is ready: all of its services are ({self._base.run_id})"
                yield msgspec.structs.replace(self._base, event="ready", text=text)
        elif new in FAILURES and name in self._counts and not self._has_failed and not transition.is_again:
            self._has_failed = True
            why = transition.reason.text or transition.reason.word
            text = f"{self._base.workflow}: task {name} {new.value}: {why} ({self._base.run_id})"
            yield msgspec.structs.replace(self._base, event="failure", text=text, task=name)
        if self._tells_tasks and new in TERMINAL and not transition.is_again:
            why = transition.reason.text or transition.reason.word
            text = f"{self._base.workflow}: task {name} {new.value}: {why} ({self._base.run_id})"
            event: NoticeEvent = (
                "task_succeeded"
                if new is TaskState.COMPLETED
                else "task_failed"
                if new in FAILURES
                else "task_finished"
            )
            yield msgspec.structs.replace(self._base, event=event, text=text, task=name)

    def stalled(self, task: str, what: str) -> RunNotice:
        """Return the notice of a task that makes no progress any more."""
        text = f"{self._base.workflow}: {what} ({self._base.run_id})"
        return msgspec.structs.replace(self._base, event="progress_stalled", text=text, task=task)

    def end(self, ended: Summary) -> RunNotice:
        """Return the notice of the end of the run."""
        why = f": {ended.cause.text}" if ended.cause is not None else ""
        text = (
            f"{self._base.workflow} {outcome_text(ended.outcome)} after {duration_text(ended.duration_s)}{why} "
            f"({self._base.run_id})"
        )
        return msgspec.structs.replace(
            self._base,
            text=text,
            task=ended.cause.task if ended.cause is not None else None,
            outcome=ended.outcome,
            exit_status=ended.exit_status,
            duration_s=ended.duration_s,
            counts={str(state): count for state, count in ended.counts.items()},
        )
