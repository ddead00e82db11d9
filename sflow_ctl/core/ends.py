"""Ends: what that of an attempt means (another one, the task's, the run's), and how attempts and the run are stopped."""

from typing import assert_never

from protocol.messages.orders import Leave, Stop
from sflow_ctl.core import dependencies, exit_policy, restart_policy, waiting
from sflow_ctl.core.commands import (
    SendToAgent,
    Warn,
)
from sflow_ctl.core.port_leases import Leases
from sflow_ctl.core.restart_policy import NextAttempt
from sflow_ctl.core.run_state import RunState
from sflow_ctl.core.shutdown_steps import (
    EVERYBODY,
    FORCE_MARGIN_S,
    GONE_MARGIN_S,
    Step,
    StopStep,
    ending_steps,
)
from sflow_ctl.core.states import (
    LIVE,
    FirstCause,
    Outcome,
    Reason,
    TaskState,
)
from sflow_ctl.core.tasks import DEFAULT_GRACE_S, End, Task

STOP_OVERDUE_S = 15.0
"""After the task's own time: an agent that has not ended its tasks by then is ended itself. Its own verify limit
is 5 s.
"""
LEAVE_OVERDUE_S = 40.0
"""An agent may need 30 s to hand over the rest of its logs."""


class Ends(RunState):
    """Judges what has ended, and ends what lives."""

    def _end_if_it_hangs(self, task: Task, now: float) -> None:
        end = waiting.hang(task)
        if end is not None:
            self._stop_task(task, end, now)

    def _attempt_exited(self, task: Task, now: float) -> None:
        """All main processes have ended: judge the attempt, now or when its tree is gone."""
        end = task.end or exit_policy.judge(task)
        if self._is_ending_for(task):
            assert self.outcome is not None
            end = self._if_it_was_first(task) or exit_policy.end_while_stopping(self.outcome, task, end)
        elif end.state is TaskState.COMPLETED and self._must_stay(task):
            end = exit_policy.left_too_early(task, dependencies.needers(self.tasks, task)) or end
        end = exit_policy.with_thief(task, end)
        goes_on = self._following(task, end, now) is not None
        if task.uncleared and (goes_on or task.state is TaskState.STOPPING):
            task.end = end
            if task.state is not TaskState.STOPPING:
                self._change(task, TaskState.STOPPING, end.reason)
            return
        self._conclude(task, end, now)

    def _ranks_vanished(self, task: Task, node: int, reason: Reason, now: float) -> None:
        """What the attempt had on this node is gone; what it has elsewhere is ended."""
        if task.is_unsent:
            self._stop_task(task, End(TaskState.LOST, reason, may_retry=True), now)
            return
        here = task.ranks_on(node)
        elsewhere = (task.open_ranks | task.uncleared) - here
        if not elsewhere:
            self._attempt_vanished(task, reason, now)
            return
        was_open = bool(task.open_ranks & here)
        task.open_ranks -= here
        task.uncleared -= here
        if was_open and task.state in LIVE and task.state is not TaskState.STOPPING:
            self._stop_task(task, End(TaskState.LOST, reason, may_retry=True), now)
        elif not task.open_ranks and task.state in LIVE and task.end is None:
            self._attempt_exited(task, now)

    def _attempt_vanished(self, task: Task, reason: Reason, now: float) -> None:
        """The attempt's processes are gone or out of reach, without a word about how they ended."""
        was_open = bool(task.open_ranks)
        task.open_ranks.clear()
        task.uncleared.clear()
        if task.state in LIVE and (was_open or task.state is TaskState.STOPPING):
            end = task.end or End(TaskState.LOST, reason, may_retry=True)
            if self._is_ending_for(task):
                assert self.outcome is not None
                end = exit_policy.end_while_stopping(self.outcome, task, end)
            self._conclude(task, end, now)
        else:
            self._release(task)

    def _all_cleared(self, task: Task, now: float) -> None:
        task.uncleared.clear()
        if task.state is TaskState.STOPPING:
            assert task.end is not None
            self._conclude(task, task.end, now)
        else:
            self._release(task)

    def _if_it_was_first(self, task: Task) -> End | None:
        """The end of a task that failed before the one whose failure ends the run, and was heard of later: a
        service's crash and what its clients make of it reach us in any order.
        """
        first = self.cause.task if self.cause is not None else None
        if first is None or task.failed_at_ns is None or task.plan.on_failure == "continue":
            return None
        known = self.task_named(first).failed_at_ns
        if self.outcome is not Outcome.FAILED or known is None or task.failed_at_ns >= known:
            return None
        end = exit_policy.judge(task)
        self.cause = exit_policy.cause_of(task, end)
        return End(end.state, end.reason)

    def _must_stay(self, task: Task) -> bool:
        """A service that others may need to the end of the run."""
        return task.was_ready and task.plan.is_service and not self.plan.services_may_leave

    def _following(self, task: Task, end: End, now: float) -> NextAttempt | None:
        if self._is_ending_for(task) or self._is_draining:
            return None
        return restart_policy.following(task, end, now)

    def _conclude(self, task: Task, end: End, now: float) -> None:
        """The attempt is over for good: another one follows, or the task has ended, and what depends on that."""
        runtime_s = None if task.started_at is None else now - task.started_at
        next_one = self._following(task, end, now)
        if next_one is not None:
            self._begin_again(task, end, next_one, runtime_s, now)
            return
        if not task.uncleared:
            self._release(task)
        self._change(task, end.state, end.reason, runtime_s)
        if Leases.concern(task.plan) and not self._is_ending_for(task):
            self._send_leases(self._leases.ended(task))
        if end.state is not TaskState.COMPLETED:
            self._task_failed(task, end, exit_policy.cause_of(task, end), now)

    def _begin_again(
        self, task: Task, end: End, next_one: NextAttempt, runtime_s: float | None, now: float
    ) -> None:
        """Another attempt follows; all of this one is gone."""
        was_ready = task.was_ready
        restart_policy.note(task, end, next_one, now)
        for node in task.stolen:
            self._leases.renew(task, node)
        assert task.taken is not None
        is_there = not any(self.nodes[node].is_gone for node in task.taken.nodes)
        if next_one.in_place and is_there:
            self._keep_place(task)
        else:
            self._release(task)
        word = "restart" if next_one.in_place else "retry"
        self._change(task, TaskState.WAITING, exit_policy.again(end, word, next_one.text), runtime_s)
        task.end = None
        self._timers.set(now + next_one.delay_s, "retry", task.index, task.attempt)
        restart = task.plan.restart
        if restart is not None and restart.restarts_dependents and was_ready:
            for other in dependencies.needers(self.tasks, task):
                if other.state in LIVE and other.state is not TaskState.STOPPING:
                    reason = Reason("restart", f"{task.plan.name}, which it needs, is started again")
                    self._stop_task(other, End(TaskState.CANCELLED, reason, is_repeated=True), now)

    def _keep_place(self, task: Task) -> None:
        assert task.taken is not None
        task.is_kept = True
        for node in task.taken.nodes:
            self.nodes[node].live.discard(task.index)
            self.nodes[node].kept.add(task.index)

    def _task_failed(self, task: Task, end: End, cause: FirstCause, now: float) -> None:
        """The task has ended without success."""
        if self.outcome is not None:
            # A task that runs at the end, or one whose failure was decided before everything else was done.
            is_own = self.outcome is Outcome.COMPLETED and end.state is not TaskState.CANCELLED
            if is_own and task.plan.on_failure != "continue":
                self.outcome, self.cause = Outcome.FAILED, cause
            return
        if end.reason.word == "upstream":
            self._stop_needers(task, now)
            return
        match task.plan.on_failure:
            case "cancel":
                self._begin_stop(Outcome.FAILED, self._failure or cause, now)
            case "drain":
                self._failure = self._failure or cause
                self._is_draining = True
                self._cancel_what_waits(Reason("fail_fast", cause.text))
            case "isolate":
                self._failure = self._failure or cause
                self._stop_needers(task, now)
            case "continue":
                pass  # what has not started and needs it is skipped
            case _:
                assert_never(task.plan.on_failure)

    def _stop_needers(self, task: Task, now: float) -> None:
        for other in dependencies.needers(self.tasks, task):
            if other.state in LIVE and other.state is not TaskState.STOPPING:
                reason = Reason("upstream", f"needs {task.plan.name}, which is {task.state}")
                self._stop_task(other, End(TaskState.CANCELLED, reason), now)

    def _skip_the_hopeless(self) -> None:
        """Who waits for what cannot happen any more does not run."""
        while self._hopeless:
            task, because = self._hopeless.pop()
            if task.state in (TaskState.WAITING, TaskState.QUEUED):
                self._give_up_place(task)
                state = TaskState.CANCELLED if task.attempt else TaskState.SKIPPED
                self._change(task, state, Reason("upstream", because))

    def _is_over(self) -> bool:
        """True when there is nothing left to do."""
        if self._has_mains and self._mains_left == 0:
            return True
        if self._is_draining:
            return self._job_count == 0
        return self.unsettled == 0 and (not self.plan.keep_alive or self._live_count == 0)

    def _leave_grace_s(self) -> float:
        return 0.0 if self._is_forced else DEFAULT_GRACE_S

    def _stop_task(self, task: Task, end: End, now: float) -> None:
        """Ends a live attempt; it is judged as `end` when its tree is gone."""
        if task.is_unsent:  # nobody has anything of it
            self._leases.withdraw(task)
            task.never_sent()
            self._conclude(task, end, now)
            return
        task.end = end
        if task.state in LIVE and task.state is not TaskState.STOPPING:
            self._change(task, TaskState.STOPPING, end.reason)
        self._send_stop(task)
        self._expect_its_end(task, now)

    def _send_stop(self, task: Task) -> None:
        task.is_stop_sent = True
        assert task.taken is not None
        grace_s = 0.0 if self._is_forced else task.plan.stopping.grace_s
        order = Stop(
            attempt=task.attempt_id, grace_s=grace_s, is_forced=self._is_forced, is_hang=task.has_hung
        )
        for node in task.nodes_left:
            if self.nodes[node].is_up:
                self._out.append(SendToAgent(node=node, message=order))

    def _expect_its_end(self, task: Task, now: float) -> None:
        limit_s = 0.0 if self._is_forced else task.stop_limit_s
        self._timers.set(now + limit_s + STOP_OVERDUE_S, "overdue", task.index, task.attempt)

    def _on_stop_requested(self, signal: str, force: bool, now: float) -> None:
        if self.outcome is None:
            self._begin_stop(*exit_policy.stopped_by(signal), now)
        if force:
            self._force(Reason("interrupted", f"stopped by {signal}"), now)

    def _force(self, reason: Reason, now: float) -> None:
        """What is left is killed now, and nothing runs at the end any more."""
        if self._is_forced:
            return
        self._is_forced = True
        self._end_finals((EVERYBODY,), reason)
        self._stop_order.begin(self.tasks, EVERYBODY.includes)
        for index in self._stop_order.force(self.tasks):
            self._stop_in_wave(self.tasks[index], now)

    def _begin_stop(self, outcome: Outcome, cause: FirstCause | None, now: float) -> None:
        """The run ends: nothing new starts, what lives is stopped in reverse dependency order."""
        self.outcome, self.cause = outcome, cause
        self._cancel_what_waits(exit_policy.never_started(outcome))
        for task in self._leases.all_waiting():
            self._stop_task(task, self._run_end(task), now)
        unsent = [spec.rank for specs in self._spawns.values() for spec in specs]
        self._spawns.clear()
        for rank in unsent:  # decided in this very step, and never told to an agent
            task = self.task_named(rank.attempt.task)
            task.open_ranks.discard(rank.rank)
            task.uncleared.discard(rank.rank)
            if not task.uncleared:
                self._conclude(task, self._run_end(task), now)
        self._ending = ending_steps(self.tasks)
        if not self._has_started:
            self._end_finals(tuple(self._ending), Reason("interrupted", "nothing had started"))
        limits = [] if self.plan.stop_timeout_s is None else [now + self.plan.stop_timeout_s]
        limits += [] if self._gone_at is None else [self._gone_at - FORCE_MARGIN_S]
        if limits:
            self._timers.set(min(limits), "stop")
        self._begin_step(now)

    def _run_end(self, task: Task) -> End:
        return exit_policy.run_end(task, self.outcome, self.cause, self._is_done)

    def _end_finals(self, steps: tuple[Step, ...], reason: Reason) -> None:
        """What was to run at the end, and has not started, does not; `steps` are what is left of the end."""
        for task in self.tasks:
            if task.plan.finally_when is not None and task.state in (TaskState.WAITING, TaskState.QUEUED):
                self._change(task, TaskState.CANCELLED, reason)
        self._ending = [step for step in steps if isinstance(step, StopStep)]

    def _begin_step(self, now: float) -> None:
        """The next step of the end begins, if there is one."""
        if not self._ending:
            return
        step = self._ending[0]
        if isinstance(step, StopStep):
            self._stop_order.begin(self.tasks, step.includes)
            return
        limit = now + step.limit_s(self.tasks)
        if self._gone_at is not None:
            limit = min(limit, self._gone_at - GONE_MARGIN_S)
        self._timers.set(limit, "finals", -1, len(self._ending))
        facts = exit_policy.run_facts(self.outcome, self.cause)
        for index in step.tasks:
            task = self.tasks[index]
            task.run_env = facts
            task.unmet -= 1
            if task.unmet == 0 and task.state is TaskState.WAITING:
                self._enqueue(task)

    def _stop_in_wave(self, task: Task, now: float) -> None:
        if task.state is TaskState.STOPPING:
            self._send_stop(task)  # its end is decided already; only the grace may be shorter
            if self._is_forced:
                self._expect_its_end(task, now)
            return
        self._stop_task(task, self._run_end(task), now)

    def _on_stop_timeout(self, now: float) -> None:
        """The run takes too long to end."""
        late = waiting.stops_late(self.tasks)
        if self._is_forced or self._leaving is not None or not (late or self._ending):
            return
        limit_s = self.plan.stop_timeout_s
        is_own = limit_s is not None and (self._gone_at is None or now < self._gone_at - FORCE_MARGIN_S)
        what = f"stop_timeout of {limit_s:g} s" if is_own else "time that the Slurm job has left"
        text = f"the run did not end within its {what}"
        self._out.append(Warn(text=f"{text}; killed: {late}" if late else text))
        self._force(Reason("time_limit", text), now)

    def _main_that_did_not_run(self) -> FirstCause | None:
        """A run whose purpose was skipped is no success, whatever was tolerated on the way."""
        for task in self.tasks:
            if task.plan.is_main and task.state in (TaskState.SKIPPED, TaskState.CANCELLED):
                assert task.last_reason is not None
                text = f"main task {task.plan.name} did not run: {task.last_reason.text}"
                return FirstCause(text=text, task=task.plan.name, reason=task.last_reason)
        return None

    def _leave(self, now: float) -> None:
        self._leaving = {index for index, node in enumerate(self.nodes) if node.is_up}
        for node in sorted(self._leaving):
            self._out.append(SendToAgent(node=node, message=Leave(grace_s=self._leave_grace_s())))
        self._timers.set(now + LEAVE_OVERDUE_S, "leave", -1, 0)
