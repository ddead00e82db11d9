"""What a resumed run has done before: which tasks need not run again and why the others do, and where they continue.

Pure. Called by `runtime/run/resume.py` and, through `take_over`, by the scheduler.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from protocol.ids import RankId
from protocol.messages.facts import RankExited
from protocol.messages.handover import CheckpointBase, FoundOutput
from sflow_ctl.core.actions.transitions import change, occupy_for_uploads
from sflow_ctl.core.commands import RecordTransition
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import Attempt, HeldExit
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import LIVE, TERMINAL, FirstCause, Reason, TaskState, Transition
from sflow_ctl.plan.artifact_mentions import PlannedArtifactUse
from sflow_ctl.plan.graph import dependency_names, topological_order
from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.same_work import Work, difference


class PriorResult(NamedTuple):
    """The result of a task from earlier controllers of the run."""

    state: TaskState
    attempt: int
    """The last one, whose log is kept."""
    is_done: bool = False
    """It has completed and need not run again."""
    outputs: dict[str, Any] | None = None
    found: tuple[FoundOutput, ...] = ()
    """What its agent has found of them."""
    why_again: str = ""
    """Why a task that has started before runs again."""
    exit_code: int | None = None
    """Of a task that is done though its end was not recorded: its controller died before its exit counted."""
    runtime_s: float | None = None
    has_uploads_left: bool = False
    """Of a task that is done: its files are still to be uploaded."""
    has_outputs_left: bool = False
    """Of a task that is done: its agent has still to find its outputs."""
    why_left: str = ""
    """Of a task that is neither done nor run: a rerun runs others only."""
    is_missed: bool = False
    """Of such a task: the run is not complete without it."""
    checkpoint_base: CheckpointBase | None = None
    """Of a task that runs again: what was said about its checkpoint."""
    reused: str = ""
    """Of a task that is done: whose result of another run this is, as a sentence."""
    is_rerun: bool = False
    """It runs again because a person has chosen it, or what it depends on."""


class Decision(NamedTuple):
    """Which tasks of a resumed run need not run, and why the others that had completed do."""

    kept: set[str]
    again: dict[str, str]
    """Tasks to reasons, each a sentence without its subject."""


def decide(new: Plan, completed: Mapping[str, Plan], incomplete: Mapping[str, str]) -> Decision:
    """Decide which tasks of the new plan need not run.

    `completed` are the tasks that completed, each with the plan that it completed under; `incomplete` are completed tasks
    of which something is missing, with what that is.

    A job is kept when it has completed, is the same work, and so is everything that it needs, services included. A
    service is kept when everything that needs it is: nothing would miss it. What runs at the end of a run always runs.
    """
    return _Deciding(new, completed, incomplete).decision()


class _Deciding:
    def __init__(self, new: Plan, completed: Mapping[str, Plan], incomplete: Mapping[str, str]) -> None:
        self._new = new
        self._completed = completed
        self._incomplete = incomplete
        members = new.members()
        self._by_name = {task.name: task for task in new.tasks}
        self._needs = {task.name: list(dependency_names(task, members)) for task in new.tasks}
        self._artifacts = PlannedArtifactUse(new)
        self._old: dict[int, tuple[PlannedArtifactUse, dict[str, PlannedTask]]] = {}
        """Of each plan that something completed under, by its identity."""
        self._services: dict[tuple[str, int], str | None] = {}
        self._kept: set[str] = set()
        self._again: dict[str, str] = {}

    def decision(self) -> Decision:
        for name in topological_order(self._needs):
            task = self._by_name[name]
            old = self._completed.get(name)
            if task.is_service or old is None:
                continue
            why = self._why_again(task, old)
            if why is None:
                self._kept.add(name)
            else:
                self._again[name] = why
        return Decision(self._kept | _unneeded_services(self._by_name, self._needs, self._kept), self._again)

    def _why_again(self, task: PlannedTask, old: Plan) -> str | None:
        if task.finally_when is not None:
            return "it runs at the end of every run"
        return (
            self._changed(task, old)
            or self._incomplete.get(task.name)
            or next(filter(None, (self._missing(other, old) for other in self._needs[task.name])), None)
        )

    def _changed(self, task: PlannedTask, old: Plan) -> str | None:
        if id(old) not in self._old:
            self._old[id(old)] = (PlannedArtifactUse(old), {one.name: one for one in old.tasks})
        artifacts, tasks = self._old[id(old)]
        if task.name not in tasks:
            return "it is new"
        return difference(Work(tasks[task.name], artifacts), Work(task, self._artifacts))

    def _missing(self, name: str, old: Plan) -> str | None:
        """Say what is wrong with a task that another one needs, which completed under an old plan."""
        task = self._by_name[name]
        if not task.is_service:
            if name in self._kept:
                return None
            return f"it needs {name}, which {'runs again' if name in self._again else 'has not completed'}"
        key = (name, id(old))
        if key not in self._services:
            change = self._changed(task, old)
            why = None if change is None else f"it needs {name}, which is not what it was: {change}"
            others = (self._missing(other, old) for other in self._needs[name])
            self._services[key] = why or next(filter(None, others), None)
        return self._services[key]


def _unneeded_services(
    by_name: Mapping[str, PlannedTask], needs: Mapping[str, list[str]], done: set[str]
) -> set[str]:
    """Return the services whose dependants are all done, or are such services themselves."""
    dependants: dict[str, list[str]] = {name: [] for name in by_name}
    for name, others in needs.items():
        for other in others:
            dependants[other].append(name)
    unneeded: set[str] = set()
    for name in reversed(topological_order(needs)):
        users = dependants[name]
        if by_name[name].is_service and users and all(user in done or user in unneeded for user in users):
            unneeded.add(name)
    return unneeded


def has_uploads_left(name: str, new: Plan, old: Plan, was_held: bool) -> bool:
    """Return whether the files of a kept task are to be uploaded: its exit still waited for that, or they go elsewhere now."""
    after, before = _uploads_of(name, new), _uploads_of(name, old)
    return bool(after and after[0]) and (was_held or after != before)


def _uploads_of(name: str, plan: Plan) -> tuple[Any, ...]:
    """Return what a task uploads, and to which targets."""
    uploads = next((task.uploads for task in plan.tasks if task.name == name), ())
    used = {upload.target for upload in uploads}
    return uploads, tuple(target for target in plan.storage if target.name in used)


def take_over(run: Run, out: Effects, earlier: Mapping[str, PriorResult]) -> list[Transition]:
    """Take over completed tasks; return the transitions to record: of all others, which start again, and late ends."""
    again: list[Transition] = []
    for task in run.tasks:
        before = earlier.get(task.plan.name)
        if before is None:
            continue
        task.attempt = Attempt(number=before.attempt)
        if task.plan.checkpoint is not None and before.attempt:
            task.follows_by = "rerun" if before.is_rerun else "resume"
            task.checkpoint_base = before.checkpoint_base
        if before.is_done:
            run.outputs[task.plan.name] = before.outputs or {}
            if before.found:
                run.found[task.plan.name] = {one.name: one for one in before.found}
        if before.is_done and (before.has_uploads_left or before.has_outputs_left):
            what = "its outputs are found" if before.has_outputs_left else "its files are uploaded"
            again.append(_again(task.plan.name, before, f"its work was done, and {what} now"))
            again += _finish(run, out, task, before, what)
        elif before.is_done and before.reused:
            reason = Reason("reused", before.reused)
            change(run, out, task, TaskState.COMPLETED, reason)
            again.append(
                Transition(
                    task=task.plan.name,
                    attempt=before.attempt,
                    old=before.state,
                    new=TaskState.COMPLETED,
                    reason=reason,
                )
            )
        elif before.is_done:
            change(run, out, task, TaskState.COMPLETED, Reason("resumed", "it had completed before"))
            if before.state is not TaskState.COMPLETED and not (
                task.plan.is_service and before.state in TERMINAL
            ):
                again.append(_late_end(task, before))
        elif before.why_left:
            again += _leave(run, out, task, before)
        elif before.state is not TaskState.WAITING:
            again.append(_again(task.plan.name, before, before.why_again or f"it was {before.state}"))
    return again


def _leave(run: Run, out: Effects, task: Task, before: PriorResult) -> list[Transition]:
    """Leave a task as it was, unless it looks as if it could still run; return the change that says so."""
    name, reason = task.plan.name, Reason("not_chosen", before.why_left)
    change(run, out, task, TaskState.SKIPPED, reason)
    if before.is_missed and run.failure is None:
        text = f"task {name} was not run again: {before.why_left}"
        run.failure = FirstCause(text=text, task=name, attempt=before.attempt, reason=reason)
    if before.state in TERMINAL:
        return []
    new = TaskState.LOST if before.state in LIVE else TaskState.SKIPPED
    return [Transition(task=name, attempt=before.attempt, old=before.state, new=new, reason=reason)]


def _again(name: str, before: PriorResult, why: str) -> Transition:
    return Transition(
        task=name,
        attempt=before.attempt,
        old=before.state,
        new=TaskState.WAITING,
        reason=Reason("resumed", why),
    )


def _finish(run: Run, out: Effects, task: Task, before: PriorResult, what: str) -> list[Transition]:
    """Hold the exit that a task had, as an attempt without processes, until what was left is done; return the changes."""
    out.take()  # of other tasks: their changes are recorded by the controller that made them
    nodes = [node for node in task.plan.placement.nodes if not run.nodes[node].is_gone]
    placement = Placement(nodes=tuple(nodes or task.plan.placement.nodes)[:1])
    if task.state is not TaskState.QUEUED:  # what it needs was taken over before it
        change(run, out, task, TaskState.QUEUED, Reason("resumed"))
    occupy_for_uploads(run, task, placement, before.attempt + 1)
    run.has_started = True
    change(run, out, task, TaskState.STARTING, Reason("resumed"))
    change(run, out, task, TaskState.RUNNING, Reason("resumed", what))
    code = next(iter(task.plan.success_exit_codes), 0) if before.exit_code is None else before.exit_code
    exited = RankExited(rank=RankId(task.attempt_id, 0), exit_code=code, runtime_s=before.runtime_s or 0.0)
    if before.has_outputs_left:
        task.attempt.held[0] = HeldExit(exited, "files")
        task.attempt.written_by = before.attempt
        task.attempt.finding_on = task.attempt.node
        run.handing.add(task.index)
    else:
        task.attempt.held[0] = HeldExit(exited, "uploads")
        task.attempt.uploading = set(placement.nodes)
    return [command.transition for command in out.take() if isinstance(command, RecordTransition)]


def _late_end(task: Task, before: PriorResult) -> Transition:
    """Return the end of a task that is kept though its end was not recorded; a service that nothing needs was stopped."""
    reason = Reason("exit", f"exit status {before.exit_code}, counted when the run was resumed")
    if task.plan.is_service:
        reason = Reason("run_complete", "nothing needed it when the run was resumed")
    return Transition(
        task=task.plan.name,
        attempt=before.attempt,
        old=before.state,
        new=TaskState.COMPLETED,
        reason=reason,
        exit_code=before.exit_code,
        runtime_s=before.runtime_s,
    )
