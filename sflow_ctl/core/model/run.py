"""The state of one run: tasks, nodes, free GPUs, queue, timers, phase. Data and queries only.

Tasks change their state through `transitions`; the phase changes through `Run.enter`.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from protocol.ids import AttemptId
from sflow_ctl.core.model.phase import RUN_TRANSITIONS, RunPhase, Shutdown
from sflow_ctl.core.model.port_leases import Leases
from sflow_ctl.core.model.ready_queue import ReadyQueue
from sflow_ctl.core.model.resources import GpuLedger
from sflow_ctl.core.model.tally import Tally
from sflow_ctl.core.model.task import Task, build_graph
from sflow_ctl.core.model.timers import Timers
from sflow_ctl.core.states import FirstCause, Outcome
from sflow_ctl.plan.deferred import DeferredValues, Evaluator
from sflow_ctl.plan.model import Plan


class Margins(NamedTuple):
    """How long before the job's end something has to be over."""

    finals_s: float = 10.0
    """Tasks of the run's end: agents still have to leave."""
    force_s: float = 5.0
    """All that is left is killed, or Slurm would do it without a report."""

    @classmethod
    def within(cls, within_s: float) -> "Margins":
        """Return the margins of an end that comes so soon."""
        return cls(min(cls().finals_s, 0.4 * within_s), min(cls().force_s, 0.25 * within_s))


class InvalidTransitionError(Exception):
    """A change of state that does not exist: our bug."""


@dataclass(slots=True)
class Node:
    """The scheduler's record of one node's agent."""

    is_up: bool = False
    is_gone: bool = False
    has_joined: bool = False
    agent_incarnation: int = 0
    shares_run_directory: bool = True
    """False when its logs are streamed to the controller."""
    clock_ahead_ns: int = 0
    """Added to the node's times; 0 if its clock agrees with the controller's."""
    live: set[int] = field(default_factory=set)
    """Tasks whose current attempt has ranks, or leftovers, here."""
    reserved: set[int] = field(default_factory=set)
    """Tasks whose place here is reserved between two attempts."""


@dataclass(slots=True)
class Run:
    """The scheduler's record of a run."""

    plan: Plan
    tasks: list[Task]
    index_of: dict[str, int]
    nodes: list[Node]
    node_names: list[str]
    awaited: set[int]
    """Nodes that have neither joined nor been given up: flexible tasks wait for them, to be spread."""
    ledger: GpuLedger
    queue: ReadyQueue
    leases: Leases
    outputs: dict[str, dict[str, Any]]
    """Of completed tasks, by task name."""
    deferred: DeferredValues
    timers: Timers
    tally: Tally
    shutdown: Shutdown
    stream_logs: bool = False
    gone_at: float | None = None
    """When Slurm takes the run's nodes away."""
    margins: Margins = field(default_factory=Margins)
    stop_began_at: float | None = None
    is_ended_by_slurm: bool = False
    """Slurm began to end the job when, or shortly after, the run began to stop."""
    phase: RunPhase = RunPhase.RUNNING
    outcome: Outcome | None = None
    """Set when the run begins to stop."""
    cause: FirstCause | None = None
    failure: FirstCause | None = None
    """The first failure that counts, of those that did not stop the run at once."""
    has_started: bool = False
    is_time_armed: bool = False
    unsatisfiable: list[tuple[Task, str]] = field(default_factory=list)
    """Tasks whose dependencies can no longer be met, and why; to be skipped."""
    reserved_ready: list[int] = field(default_factory=list)
    """Tasks that may start again in their reserved place."""
    stuck_at: tuple[int, int] | None = None
    """The task of the last warning about missing room."""
    survivors: list[str] = field(default_factory=list)
    stale_messages: int = 0
    """Messages about tasks or attempts that do not exist or are over."""

    @classmethod
    def of(
        cls,
        plan: Plan,
        evaluator: Evaluator,
        *,
        stream_logs: bool,
        gone_at: float | None,
        missing: frozenset[int],
    ) -> "Run":
        """Return the state of a run that has not begun; `missing` are nodes that it begins without."""
        tasks = build_graph(plan)
        leases = Leases(plan, tasks)
        outputs: dict[str, dict[str, Any]] = {}
        nodes = [Node(is_gone=index in missing) for index in range(len(plan.nodes))]
        return cls(
            plan=plan,
            tasks=tasks,
            index_of={task.plan.name: task.index for task in tasks},
            nodes=nodes,
            node_names=[node.name for node in plan.nodes],
            awaited=set(range(len(nodes))) - missing,
            ledger=GpuLedger(plan.nodes),
            queue=ReadyQueue(),
            leases=leases,
            outputs=outputs,
            deferred=DeferredValues(plan, outputs, leases.ports_of, evaluator),
            timers=Timers(),
            tally=Tally.of(tasks),
            shutdown=Shutdown(),
            stream_logs=stream_logs,
            gone_at=gone_at,
        )

    def enter(self, phase: RunPhase) -> None:
        """Change the phase. Raises: InvalidTransitionError for a change that is not in the table."""
        if phase not in RUN_TRANSITIONS[self.phase]:
            raise InvalidTransitionError(f"run: {self.phase} -> {phase}")
        self.phase = phase

    def is_up(self, node: int) -> bool:
        """Return whether the node's agent is connected."""
        return self.nodes[node].is_up

    def task_named(self, name: str) -> Task:
        """Return the record of a task of the plan. Raises: KeyError; peers' names go through `current`."""
        return self.tasks[self.index_of[name]]

    def is_current(self, attempt: AttemptId) -> bool:
        """Return whether this is the live attempt of a task; false for an unknown name."""
        index = self.index_of.get(attempt.task)
        if index is None:
            return False
        task = self.tasks[index]
        return task.attempt.number == attempt.number and task.is_live

    def current(self, attempt: AttemptId) -> Task | None:
        """Return the task whose live attempt this is; count any other as stale and return None."""
        if self.is_current(attempt):
            return self.tasks[self.index_of[attempt.task]]
        self.stale_messages += 1
        return None

    def is_ending_for(self, task: Task) -> bool:
        """Return True once the run stops, except for tasks that run at its end."""
        return self.outcome is not None and (task.plan.finally_when is None or self.shutdown.is_forced)
