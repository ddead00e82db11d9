"""Applies another plan to a live run: what changes is stopped and starts again, the rest is left alone. Called by `requests`.

Tasks keep their indices, so nothing that knows one by its index has to be changed. A task that has a place keeps its plan
until it has left that, and counts for no other meanwhile; `waves` stops those tasks. `plan/revisions` compares the plans.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from protocol.text.listing import listed
from sflow_ctl.core.actions.requested.graph import link_anew, never_met
from sflow_ctl.core.actions.requested.restarts import forgive
from sflow_ctl.core.actions.requested.waves import wait_anew
from sflow_ctl.core.actions.transitions import change, end_delay, enqueue, give_up_reservation, take_on
from sflow_ctl.core.commands import ReviseRun
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.steps import BranchStep
from sflow_ctl.core.model.stop_order import Revising, StopOrder, stop_levels
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import DeadlineDue, TimeoutDue, WorkflowTimeout
from sflow_ctl.core.policy.restart_policy import begin_without_past
from sflow_ctl.core.requests import Apply, Effect, RequestAnswer
from sflow_ctl.core.states import TERMINAL, Reason, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.revisions.blocks import without_stale
from sflow_ctl.plan.revisions.comparing import STARTS_AGAIN, PlanChange, TasksNow, compare
from sflow_ctl.plan.revisions.describing import is_same, revision_text
from sflow_ctl.plan.revisions.growing import grown_like
from sflow_ctl.plan.revisions.merging import merged
from sflow_ctl.plan.revisions.refusals import refusals

_NOT_STARTED = (TaskState.WAITING, TaskState.QUEUED)
SHOWN = 3


def apply_plan(run: Run, out: Effects, action: Apply, by: str, now: float) -> RequestAnswer:
    """Continue with another plan, if the run can."""
    refusal = _why_not(run, action)
    if refusal is not None:
        return refusal
    new = run.plans(action.source)
    if action.base != run.plan.revision:  # the run has added tasks since
        new = grown_like(new, run.plan)
    found = refusals(run.plan, new)
    if found:
        return RequestAnswer(error="; ".join(one.what for one in found), hint=found[0].hint)
    changes = compare(run.plan, new, tasks_now(run))
    if new.blocks:
        again = {name for name, one in changes.items() if one.kind in STARTS_AGAIN}
        new = without_stale(new, lambda name: name not in again)
        changes = compare(run.plan, new, tasks_now(run))
    if is_same(run.plan, new, changes):
        return RequestAnswer(text=f"nothing changes: revision {run.plan.revision} stays")
    text = revision_text(run.plan.revision + 1, changes)
    effects = _put_in_force(
        run, out, new, changes, ReviseRun(by=by, source=action.source, plan=new, text=text), now
    )
    paused = (
        "; the run is paused: what starts waits for `sflow-ctl unpause`" if run.requests.is_paused else ""
    )
    return RequestAnswer(text=f"{text}{paused}", effects=effects, revision=run.plan.revision)


def put_in_force(run: Run, out: Effects, new: Plan, by: str, text: str, now: float) -> None:
    """Continue with a plan that the run has made itself, in place of the present one."""
    changes = compare(run.plan, new, tasks_now(run))
    command = ReviseRun(by=by, source="", plan=new, text=f"revision {run.plan.revision + 1}: {text}")
    _put_in_force(run, out, new, changes, command, now)


def _put_in_force(
    run: Run, out: Effects, new: Plan, changes: Mapping[str, PlanChange], command: ReviseRun, now: float
) -> tuple[Effect, ...]:
    placed = {task.plan.name for task in run.tasks if task.attempt.placement is not None}
    plan = merged(run.plan, new, changes, placed, command.source)
    out.perform(replace(command, plan=plan))
    return _Revision(run, out, plan, changes).begin(now)


def _why_not(run: Run, action: Apply) -> RequestAnswer | None:
    if run.outcome is not None:
        return RequestAnswer(error="the run is ending: no other plan can be applied")
    if run.phase is RunPhase.DRAINING:
        return RequestAnswer(
            error="a task with `on_failure: drain` has failed, and nothing new starts",
            hint="run --resume takes the new file when the run has ended",
        )
    if not run.plan.whole <= action.base <= run.plan.revision:
        return RequestAnswer(
            error=f"revision {run.plan.revision} is in force, and this was compared with revision {action.base}",
            hint="apply it again: another one has come in between",
        )
    if run.revising is not None:
        names = [run.tasks[index].plan.name for index in sorted(run.revising.pending)]
        return RequestAnswer(
            error=f"revision {run.plan.revision} is still being applied: {listed(names, SHOWN)} must stop first",
            hint="apply it again when that is done; sflow-ctl stop --kill TASK ends a task at once",
        )
    return None


def tasks_now(run: Run) -> TasksNow:
    """Return what decides beside the plans."""
    unready = {
        task.plan.name
        for task in run.tasks
        if task.is_live and task.plan.has_readiness and not task.attempt.was_ready
    }
    served = {
        task.plan.name
        for task in run.tasks
        if task.state is TaskState.COMPLETED
        and task.plan.is_service
        and task.index not in run.requests.stopped
    }
    return TasksNow(unready, {run.tasks[index].plan.name for index in run.requests.stopped}, served)


def add_tasks(run: Run, plans: Sequence[PlannedTask]) -> list[Task]:
    """Add the records of tasks that are new, and return them."""
    new = []
    for plan in plans:
        task = Task(index=len(run.tasks), plan=plan)
        run.tasks.append(task)
        run.index_of[plan.name] = task.index
        run.tally.add(task)
        run.changed.add(task.index)
        new.append(task)
    run.tally.has_mains = run.tally.has_mains or any(plan.is_main and not plan.removed_in for plan in plans)
    if run.shutdown.branch:
        _join_branch(run, new)
    return new


def _join_branch(run: Run, new: Sequence[Task]) -> None:
    """Let tasks run in a run that ends which are there in the place of one that does."""
    shutdown = run.shutdown
    for task in new:
        owner = (
            task.plan.base if task.plan.frame is None or task.plan.item is not None else task.plan.frame.owner
        )
        if run.index_of.get(owner) in shutdown.branch:
            shutdown.branch |= {task.index}
    shutdown.steps = [
        replace(step, tasks=shutdown.branch) if isinstance(step, BranchStep) else step
        for step in shutdown.steps
    ]


class _Revision:
    """The change of one run to another plan."""

    def __init__(self, run: Run, out: Effects, plan: Plan, changes: Mapping[str, PlanChange]) -> None:
        self._run, self._out, self._plan, self._changes = run, out, plan, changes
        self._why: dict[int, Reason] = {}

    def begin(self, now: float) -> tuple[Effect, ...]:
        """Put the plan in force; return what happens to tasks. What has to be stopped first follows after this."""
        run = self._run
        known = len(run.tasks)
        affected = [task for task in run.tasks if self._is_affected(task)]
        self._why = {task.index: self._reason(task) for task in affected}
        occupied = {task.index for task in affected if task.attempt.placement is not None and task.is_live}
        effects = [self._effect(task, task.index in occupied) for task in affected]
        effects += self._others()
        order = StopOrder()
        order.waves = stop_levels(run.tasks, lambda task: task.index in occupied)
        run.revising = Revising(order, pending=set(occupied), why=self._why)
        self._change_limits(now)
        old_timeout = run.plan.timeout_s
        run.plan = self._plan
        if run.is_time_armed and old_timeout != self._plan.timeout_s:
            run.timers.change_limit(WorkflowTimeout(), now, old_timeout, self._plan.timeout_s)
        self._give_plans(occupied)
        add_tasks(run, self._plan.tasks[known:])
        run.tally.has_mains = any(task.wanted.is_main and not task.wanted.removed_in for task in run.tasks)
        run.cells.revise(self._plan, run.tasks)
        run.leases.use(self._plan)
        run.deferred = run.deferred.of_plan(self._plan)
        link_anew(run.tasks)
        run.links = None
        self._move_on(affected, occupied)
        return tuple(effects)

    def _is_affected(self, task: Task) -> bool:
        """Return whether a known task starts again, comes back or goes."""
        found = self._changes.get(task.plan.name)
        return found is not None and found.kind not in ("unchanged", "updated")

    def _reason(self, task: Task) -> Reason:
        one, revision = self._changes[task.plan.name], f"revision {self._plan.revision}"
        match one.kind:
            case "removed":
                return Reason("removed", f"removed by {revision}")
            case "new":
                return Reason("restart", f"{revision} has it again")
            case "dependent":
                return Reason("restart", f"{one.needs}, which it needs, is another one in {revision}")
            case _:
                return Reason("restart", f"changed by {revision}: {listed(one.why, SHOWN, ', ')}")

    def _effect(self, task: Task, is_occupied: bool) -> Effect:
        one = self._changes[task.plan.name]
        why = {"changed": listed(one.why, SHOWN, ", "), "dependent": f"it needs {one.needs}"}.get(
            one.kind, ""
        )
        why = f": {why}" if why else ""
        if one.kind == "removed":
            text = "is being stopped" if is_occupied else f"is removed; it was {task.state}"
        elif is_occupied:
            text = f"is being stopped, and starts again{why}"
        elif task.state in TERMINAL:
            text = f"starts again{why}; it was {task.state}"
        else:
            text = f"is changed before it starts{why}"
        return Effect(task=task.plan.name, text=text)

    def _others(self) -> Iterable[Effect]:
        """Yield what happens to tasks that are new, or continue with other rules."""
        for one in self._changes.values():
            if one.kind == "updated":
                yield Effect(task=one.task, text=f"continues: {listed(one.why, SHOWN, ', ')}")
            elif one.kind == "new" and one.task not in self._run.index_of:
                yield Effect(task=one.task, text="is new")

    def _change_limits(self, now: float) -> None:
        """Have the limits of tasks that continue be those of the new plan."""
        run = self._run
        for task in run.tasks:
            new = self._plan.tasks[task.index]
            if task.plan is new or self._is_affected(task) or not task.is_live:
                continue
            begun, number = task.attempt.started_at or now, task.attempt.number
            if task.plan.timeout_s != new.timeout_s:
                timer = TimeoutDue(task.index, number)
                run.timers.change_limit(timer, begun, task.plan.timeout_s, new.timeout_s)
            if len(task.plan.deadlines_s) == len(new.deadlines_s):
                pairs = zip(task.plan.deadlines_s, new.deadlines_s, strict=True)
                for part, (old_s, new_s) in enumerate(pairs):
                    if old_s != new_s:
                        run.timers.change_limit(DeadlineDue(task.index, number, part), begun, old_s, new_s)

    def _give_plans(self, occupied: set[int]) -> None:
        run = self._run
        for task in run.tasks:
            plan = self._plan.tasks[task.index]
            if task.index in occupied:
                task.next_plan = plan
                task.met, task.is_serving = frozenset(), False
                run.changed.add(task.index)
                continue
            if self._is_affected(task):
                give_up_reservation(run, task)
            if task.plan is not plan:
                take_on(run, task, plan)

    def _move_on(self, affected: Iterable[Task], occupied: set[int]) -> None:
        """Begin what need not be stopped before, and put everything that may start into the queue."""
        run, out = self._run, self._out
        for task in affected:
            run.requests.stopped.discard(task.index)
            if task.plan.removed_in or task.wanted.removed_in:
                if task.state in _NOT_STARTED:
                    change(run, out, task, TaskState.CANCELLED, self._why[task.index])
                forgive(run, task)
            elif task.index not in occupied:
                self._begin_again(task)
            else:
                forgive(run, task)
        run.unsatisfiable = list(never_met(run.tasks))
        for task in run.tasks:
            may_start = task.state is TaskState.WAITING and task.unmet == 0 and not task.is_delayed
            if may_start and task.plan.finally_when is None:
                enqueue(run, out, task)
        run.renew_queue()
        run.stuck_at = None
        run.cells.forget_held()  # a task that was removed may have let a cell begin
        run.awaiting_places.clear()
        for task in run.tasks:
            if task.state is TaskState.QUEUED and not task.is_reserved:
                run.queue.push(task.index)

    def _begin_again(self, task: Task) -> None:
        if task.state in TERMINAL:
            wait_anew(self._run, self._out, task, self._why[task.index])
            forgive(self._run, task)
            return
        begin_without_past(task)
        if task.is_delayed:
            end_delay(self._run, self._out, task)
