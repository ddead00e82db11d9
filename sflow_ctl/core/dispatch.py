"""Who starts when and where: the queue, places that are kept, ports that are leased first."""

from protocol.messages.facts import Leased
from sflow_ctl.core import waiting
from sflow_ctl.core.commands import (
    Warn,
)
from sflow_ctl.core.ends import Ends
from sflow_ctl.core.port_leases import Leases
from sflow_ctl.core.readiness import Readiness, ranks_needed
from sflow_ctl.core.states import (
    FirstCause,
    Reason,
    TaskState,
)
from sflow_ctl.core.tasks import End, Task
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Placement


def _may_be_anywhere(placement: Placement) -> bool:
    return placement.is_flexible and not placement.gpus_per_node


class Starting(Ends):
    """Starts what may start."""

    def _start_in_their_place(self, now: float) -> None:
        waiting, self._kept_ready = self._kept_ready, []
        for index in waiting:
            task = self.tasks[index]
            if task.state is not TaskState.QUEUED or not task.is_kept:
                continue
            assert task.taken is not None
            if task.unmet > 0:
                self._wait_again(task)
            elif all(map(self._is_up, task.taken.nodes)):
                for node in task.taken.nodes:
                    self.nodes[node].kept.discard(index)
                self._begin_attempt(task, task.taken, now)
            else:
                self._kept_ready.append(index)  # an agent is away; it comes back, or is lost

    def _wait_again(self, task: Task) -> None:
        reason = Reason("dependencies", "a service it needs is restarting")
        self._change(task, TaskState.WAITING, reason)

    def _start_queued(self, now: float) -> None:
        if self._kept_ready:
            self._start_in_their_place(now)
        limit = self.plan.max_running
        outcome = self.outcome  # a task that cannot start may end the run
        while (limit is None or self._live_count < limit) and self.outcome is outcome:
            index = self._queue.pop()
            if index is None:
                break
            task = self.tasks[index]
            if task.state is not TaskState.QUEUED:
                continue
            placement = task.plan.placement
            if task.unmet > 0:
                self._wait_again(task)
                self._queue.retry_like(placement)
                continue
            is_early = self.outcome is None and self._awaited and _may_be_anywhere(placement)
            taken = None if is_early else self._ledger.take(placement, self._is_up)
            if taken is None:
                if not self._can_ever_fit(task):
                    reason = Reason("node_lost", "the nodes it could run on are lost")
                    self._cannot_start(task, TaskState.LOST, reason, now)
                    self._queue.retry_like(placement)
                    continue
                self._queue.block(index, placement)
                continue
            self._queue.retry_like(placement)
            self._live_count += 1
            self._job_count += not task.plan.is_service
            self._begin_attempt(task, taken, now)

    def _begin_attempt(self, task: Task, taken: Placement, now: float) -> None:
        task.begin_attempt(taken, now)
        self._has_started = True
        self._change(task, TaskState.STARTING, Reason("placed"))
        if task.plan.timeout_s is not None:
            self._timers.set(now + task.plan.timeout_s, "timeout", task.index, task.attempt)
        if task.plan.deadline_s is not None:
            self._timers.set(now + task.plan.deadline_s, "deadline", task.index, task.attempt)
        for node in task.node_of_rank:
            self.nodes[node].live.add(task.index)
        if Leases.concern(task.plan):
            self._send_leases(self._leases.begin(task))
            self._give_up_leases(
                {node for node in self._leases.nodes_lacking(task) if self.nodes[node].is_gone}, now
            )
        if task.is_unsent and not self._leases.is_waiting(task):
            self._spawn(task, now)

    def _spawn(self, task: Task, now: float) -> None:
        """Orders the processes of an attempt for which everything is known."""
        try:
            task.fill_in(self._late, self._leases.own_of(task))
        except ExpressionError as error:
            self._stop_task(task, End(TaskState.FAILED, Reason("expression", error.text)), now)
            return
        specs = task.rank_specs(self.plan, self._stream_logs)
        task.readiness = Readiness.of(specs, ranks_needed(task.plan.probes, task.plan.world_size))
        for node, spec in specs:
            self._spawns.setdefault(node, []).append(spec)

    def _on_leased(self, node: int, message: Leased, now: float) -> None:
        for task in self._leases.leased(node, message):
            if not task.is_unsent:
                continue  # ended because of another one here
            if self._is_ending_for(task):
                self._stop_task(task, self._run_end(task), now)
            elif message.problem:
                text = f"no ports for {message.task} on node {self._node_names[node]}: {message.problem}"
                self._stop_task(task, End(TaskState.FAILED, Reason("ports", text), may_retry=True), now)
            else:
                self._spawn(task, now)

    def _give_up_leases(self, gone: set[int], now: float) -> None:
        """Attempts that wait for ports of nodes that are lost."""
        for task in self._leases.waiting_for(gone) if gone else ():
            if task.is_unsent:  # not ended by the end of another of them
                reason = Reason("node_lost", "a node whose ports it needs is lost")
                self._stop_task(task, End(TaskState.LOST, reason, may_retry=True), now)

    def _warn_if_stuck(self) -> None:
        """Only ready services run, and somebody waits for what they hold: people should know, once."""
        first = self._queue.first_blocked()
        if first is None or self._stuck_at == (first, self._live_count):
            return
        self._stuck_at = (first, self._live_count)
        task = self.tasks[first]
        self._out.append(Warn(text=waiting.finds_no_room(task, self.tasks)))

    def _cannot_start(self, task: Task, state: TaskState, reason: Reason, now: float) -> None:
        self._change(task, state, reason)
        cause = FirstCause(
            text=f"task {task.plan.name} cannot start: {reason.text}", task=task.plan.name, reason=reason
        )
        self._task_failed(task, End(state, reason), cause, now)

    def _can_ever_fit(self, task: Task) -> bool:
        placement = task.plan.placement
        alive = sum(not self.nodes[node].is_gone for node in placement.nodes)
        return alive >= (placement.node_count if placement.is_flexible else len(placement.nodes))
