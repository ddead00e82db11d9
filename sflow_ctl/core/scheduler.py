"""The scheduler: takes in what happens, and lets the layers below decide. `handle(event, now) -> commands`.

What starts is decided in `starting.py`, what an end means and how things are stopped in `ends.py` (with `exit_policy.py`,
`following.py`, `ending.py`); the state they share is in `run_state.py`.
"""

from typing import assert_never

from protocol.ids import AttemptId
from protocol.messages.facts import (
    FromAgent,
    Goodbye,
    Hello,
    Inspected,
    LaunchFailed,
    Leased,
    LogSearch,
    NodeDescribed,
    Notice,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankIdle,
    RankStarted,
    SideCommandEnded,
)
from protocol.messages.orders import Leave
from sflow_ctl.core import exit_policy, waiting
from sflow_ctl.core.commands import (
    AbandonNode,
    AcceptAgent,
    Command,
    FinishRun,
    RecordWaiting,
    SendToAgent,
)
from sflow_ctl.core.dispatch import Starting
from sflow_ctl.core.events import (
    AgentJoined,
    AgentLost,
    MessageReceived,
    OutputsCollected,
    SchedulerEvent,
    StopRequested,
    WakeUp,
)
from sflow_ctl.core.shutdown_steps import EVERYBODY, FinalStep
from sflow_ctl.core.states import (
    LIVE,
    FirstCause,
    Outcome,
    Reason,
    TaskState,
)
from sflow_ctl.core.tasks import End, Task
from sflow_ctl.core.timers import TimerKind

CLOCKS_AGREE_NS = 1_000_000_000
"""A difference below this may as well be the time that the hello took."""


class Scheduler(Starting):
    """The state of one run. Same events at the same times give the same commands."""

    def handle(self, event: SchedulerEvent, now: float) -> list[Command]:
        """Takes in one event; returns what to do, in order."""
        if self.is_finished:
            return []
        match event:
            case AgentJoined(hello=hello, clock_ahead_ns=ahead_ns):
                self.nodes[hello.node].clock_ahead_ns = ahead_ns if abs(ahead_ns) > CLOCKS_AGREE_NS else 0
                self._on_hello(hello, now)
            case MessageReceived(node=node, message=message):
                self._on_message(node, message, now)
            case AgentLost(node=node, reason=reason):
                self._on_agent_lost(node, reason, now)
            case StopRequested(signal=signal, force=force):
                self._on_stop_requested(signal, force, now)
            case OutputsCollected(task=name, attempt=attempt, values=values):
                if self._is_current(name, attempt):
                    self._outputs[name] = values
            case WakeUp():
                self._on_wakeup(now)
            case _:
                assert_never(event)
        self._settle(now)
        out, self._out = self._out, []
        return out

    def _on_hello(self, hello: Hello, now: float) -> None:
        node = self.nodes[hello.node]
        if node.is_gone:
            self._out.append(AbandonNode(node=hello.node, reason="the run goes on without this node"))
            return
        self._awaited.discard(hello.node)
        is_restarted = node.has_joined and hello.agent_incarnation != node.agent_incarnation
        node.is_up = node.has_joined = True
        node.agent_incarnation = hello.agent_incarnation
        known = {(live.rank.attempt, live.rank.rank) for live in hello.live}
        known |= {(exited.rank.attempt, exited.rank.rank) for exited in hello.exited}
        kill = tuple(
            live.rank
            for live in hello.live
            if not self._is_current(live.rank.attempt.task, live.rank.attempt.number)
        )
        self._out.append(AcceptAgent(node=hello.node, session=hello.session, kill=kill))
        for live in hello.live:
            self._on_message(
                hello.node, RankStarted(rank=live.rank, pid=live.pid, started_at_ns=live.started_at_ns), now
            )
        for told in hello.triggered + hello.quiet + hello.exited:
            self._on_message(hello.node, told, now)
        self._send_leases(self._leases.node_joined(hello.node, is_restarted))
        for index in sorted(node.live):
            self._reconcile(self.tasks[index], hello, known, is_restarted, now)
        if self._leaving is not None:
            self._leaving.add(hello.node)
            self._out.append(SendToAgent(node=hello.node, message=Leave(grace_s=self._leave_grace_s())))
        self._queue.retry_all()

    def _reconcile(
        self, task: Task, hello: Hello, known: set[tuple[AttemptId, int]], is_restarted: bool, now: float
    ) -> None:
        """Orders again what a lost session may have lost, and gives up what the agent does not have."""
        if task.is_unsent:
            return
        here = task.ranks_on(hello.node)
        for rank in sorted(task.open_ranks & here):
            if (task.attempt_id, rank) in known:
                continue
            if rank in task.unstarted and not is_restarted:
                self._spawns.setdefault(hello.node, []).extend(
                    spec
                    for node, spec in task.rank_specs(self.plan, self._stream_logs)
                    if node == hello.node and spec.rank.rank == rank
                )
            elif task.state in LIVE:
                reason = Reason("node_lost", "the agent on its node was restarted")
                self._ranks_vanished(task, hello.node, reason, now)
                return
        clearing = {rank.rank for rank in hello.clearing if rank.attempt == task.attempt_id}
        task.uncleared -= here - task.open_ranks - clearing
        if not task.uncleared:
            self._all_cleared(task, now)
        elif task.is_stop_sent:
            self._send_stop(task)

    def _on_agent_lost(self, index: int, reason: str, now: float) -> None:
        node = self.nodes[index]
        if node.is_gone:
            return
        node.is_up, node.is_gone = False, True
        self._awaited.discard(index)
        name = self.plan.nodes[index].name
        self._out.append(AbandonNode(node=index, reason=reason))
        if self._leaving is not None:
            self._leaving.discard(index)
        sentence = f"node {name} was lost: {reason}"
        for task_index in sorted(node.kept):
            task = self.tasks[task_index]
            self._release(task)
            if task.state is TaskState.QUEUED:
                self._queue.push(task_index)  # elsewhere, if it may; else it is lost when its turn comes
        for task_index in sorted(node.live):
            self._ranks_vanished(self.tasks[task_index], index, Reason("node_lost", sentence), now)
        self._give_up_leases({index}, now)
        if not node.has_joined and self.outcome is None:
            cause = FirstCause(text=f"the agent of node {name} did not report: {reason}", node=index)
            self._begin_stop(Outcome.INFRASTRUCTURE, cause, now)
        self._queue.retry_all()

    def _on_message(self, node: int, message: FromAgent, now: float) -> None:
        match message:
            case RankStarted():
                self._on_started(node, message, now)
            case RankExited():
                self._on_exited(message, now)
            case RankCleared():
                self._on_cleared(message, now)
            case LaunchFailed():
                self._on_launch_failed(message, now)
            case ProbeTriggered():
                self._on_probe(node, message, now)
            case ProbeWaiting():
                self._on_waiting(node, message)
            case Leased():
                self._on_leased(node, message, now)
            case RankIdle():
                self._on_quiet(message, now)
            case Goodbye(survivors=survivors):
                self.survivors.extend(survivors)
                if self._leaving is not None:
                    self._leaving.discard(node)
                    self.nodes[node].is_up = False
            case NodeDescribed() | Inspected() | LogSearch() | Notice() | Hello() | SideCommandEnded():
                pass  # the shell's: facts for people, and hellos arrive as AgentJoined
            case _:
                assert_never(message)

    def _on_started(self, node: int, message: RankStarted, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.unstarted:
            return
        task.started_at_ns[message.rank.rank] = message.started_at_ns + self.nodes[node].clock_ahead_ns
        task.unstarted.discard(message.rank.rank)
        if message.rank.rank == 0:
            task.pid = message.pid
        if task.state is TaskState.STARTING and not task.unstarted:
            self._change(task, TaskState.RUNNING, Reason("started"))
            if task.early_readiness is not None:
                self._change(task, TaskState.READY, Reason("ready", task.early_readiness))
            elif task.plan.is_service and not task.plan.has_readiness:
                self._change(task, TaskState.READY, Reason("ready", "its process runs"))
            self._end_if_it_hangs(task, now)

    def _on_exited(self, message: RankExited, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.open_ranks:
            return
        if task.state is TaskState.STARTING:
            self._change(task, TaskState.RUNNING, Reason("started"))
        task.open_ranks.discard(message.rank.rank)
        task.unstarted.discard(message.rank.rank)
        exit_policy.note_exit(task, message)
        task.note_stolen(message.rank.rank, message.port_conflict)
        if message.cleared:
            task.uncleared.discard(message.rank.rank)
        if not task.open_ranks:
            self._attempt_exited(task, now)
        else:
            self._one_of_several_exited(task, message, now)

    def _one_of_several_exited(self, task: Task, message: RankExited, now: float) -> None:
        """The others run on, unless the task says otherwise."""
        self._end_if_it_hangs(task, now)
        if task.state is TaskState.STOPPING:
            return
        is_hopeless = task.readiness.rank_gone(message.rank.rank) and task.state is TaskState.RUNNING
        if exit_policy.is_bad(task, message) and (
            task.plan.kill_on_bad_exit or is_hopeless or message.port_conflict
        ):
            because = f", and its readiness waits for rank {message.rank.rank}" if is_hopeless else ""
            self._stop_task(task, exit_policy.judge_rank(task, because), now)
        elif task.plan.wait_s is not None and len(task.open_ranks) == task.plan.world_size - 1:
            self._timers.set(now + task.plan.wait_s, "ranks", task.index, task.attempt)

    def _on_cleared(self, message: RankCleared, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.uncleared:
            return
        self.survivors.extend(message.survivors)
        task.uncleared.discard(message.rank.rank)
        if not task.open_ranks and not task.uncleared:
            self._all_cleared(task, now)

    def _on_launch_failed(self, message: LaunchFailed, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.open_ranks:
            return
        task.open_ranks.discard(message.rank.rank)
        task.uncleared.discard(message.rank.rank)
        if task.launch_error is None:
            task.launch_error, task.failed_rank = message, message.rank.rank
        task.note_stolen(message.rank.rank, message.port_conflict)
        if not task.open_ranks:
            self._attempt_exited(task, now)
        elif task.state is not TaskState.STOPPING:
            self._stop_task(task, exit_policy.judge(task), now)

    def _on_probe(self, node: int, message: ProbeTriggered, now: float) -> None:
        task = self._current(*message.attempt)
        if task is None:
            return
        if message.kind == "readiness":
            if not task.readiness.seen(node, message.rank):
                return
            if task.state is TaskState.RUNNING:
                self._change(task, TaskState.READY, Reason("ready", message.detail))
            elif task.state is TaskState.STARTING:  # of several ranks, one is quicker than the others' start
                task.early_readiness = message.detail
        elif task.state in (TaskState.STARTING, TaskState.RUNNING, TaskState.READY):
            # The format: a failure probe ends the task whatever retries it has. A restart policy is asked.
            self._stop_task(task, End(TaskState.FAILED, Reason("probe", message.detail)), now)

    def _on_quiet(self, message: RankIdle, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None:
            return
        quiet = task.quiet.setdefault(message.kind, set())
        (quiet.add if message.is_quiet else quiet.discard)(message.rank.rank)
        self._end_if_it_hangs(task, now)

    def _on_waiting(self, node: int, message: ProbeWaiting) -> None:
        task = self._current(*message.attempt)
        if task is None or task.state is not TaskState.RUNNING:
            return
        if task.readiness.waits(node, message.detail):
            text = waiting.waits_for(task, self._node_names)
            self._out.append(RecordWaiting(task=task.plan.name, attempt=task.attempt, text=text))

    def _go_on_ending(self, now: float) -> None:
        """Takes the steps of the end as far as they go now."""
        while self._ending:
            step = self._ending[0]
            if isinstance(step, FinalStep):
                self._skip_the_hopeless()
                self._start_queued(now)
                if not step.is_over(self.tasks):
                    return
            else:
                for index in self._stop_order.next_wave(self.tasks):
                    self._stop_in_wave(self.tasks[index], now)
                if not self._stop_order.is_over:
                    return
            self._ending.pop(0)
            self._begin_step(now)

    def _on_wakeup(self, now: float) -> None:
        while (timer := self._timers.pop_due(now)) is not None:
            if timer.kind == "workflow":
                if self.outcome is None:
                    still = waiting.not_ready(self.tasks, self._node_names)
                    text = f"the workflow's time limit of {self.plan.timeout_s:g} s is over{still}"
                    self._begin_stop(Outcome.TIMEOUT, FirstCause(text=text), now)
            elif timer.kind == "allocation":
                if self.outcome is None:
                    text = "the Slurm job's time is nearly over"
                    self._begin_stop(Outcome.TIMEOUT, FirstCause(text=text, reason=Reason("time_limit")), now)
            elif timer.kind == "finals":
                if timer.attempt == len(self._ending):
                    self._end_finals((EVERYBODY,), Reason("time_limit", "there was no time left for it"))
                    self._begin_step(now)
            elif timer.kind == "stop":
                self._on_stop_timeout(now)
            elif timer.kind == "leave":
                for node in sorted(self._leaving or ()):
                    self._on_agent_lost(node, "it did not leave in time", now)
            elif self.tasks[timer.task].attempt == timer.attempt:
                self._on_task_time(self.tasks[timer.task], timer.kind, now)

    def _on_task_time(self, task: Task, kind: TimerKind, now: float) -> None:
        match kind:
            case "retry" if task.state is TaskState.WAITING:
                task.is_delayed = False
                self._working_count -= 1
                if task.unmet == 0:
                    self._enqueue(task)
            case "timeout" | "deadline" if task.state in (TaskState.STARTING, TaskState.RUNNING):
                self._stop_task(task, waiting.too_late(task, kind, self._node_names), now)
            case "timeout" if task.state is TaskState.READY and not task.plan.is_service:
                self._stop_task(task, waiting.too_late(task, kind, self._node_names), now)
            case "ranks" if task.open_ranks and task.state is not TaskState.STOPPING:
                self._stop_task(task, waiting.too_late(task, kind, self._node_names), now)
            case "overdue" if task.is_live and task.taken is not None:
                for node in task.nodes_left:
                    self._on_agent_lost(node, f"it did not end {task.attempt_id} in time", now)
            case _:
                pass  # the attempt has moved on

    def _settle(self, now: float) -> None:
        if self.outcome is None:
            self._skip_the_hopeless()
            if not self._is_draining:
                self._start_queued(now)
            if self._working_count == 0 and self._live_count:
                self._warn_if_stuck()
            if self._has_started and self.plan.timeout_s is not None and not self._is_time_armed:
                self._is_time_armed = True
                self._timers.set(now + self.plan.timeout_s, "workflow", -1, 0)
            if self.outcome is None and self._is_over():
                self._is_done = True
                failure = self._failure or self._main_that_did_not_run()
                self._begin_stop(Outcome.FAILED if failure else Outcome.COMPLETED, failure, now)
        self._send_spawns()
        if self.outcome is not None:
            self._go_on_ending(now)
            self._send_spawns()
            if self._live_count == 0 and self._leaving is None and not self._ending:
                self._leave(now)
            if self._leaving is not None and not self._leaving:
                self.is_finished = True
                self._timers.clear()
                self._out.append(
                    FinishRun(outcome=self.outcome, cause=self.cause, survivors=tuple(self.survivors))
                )
