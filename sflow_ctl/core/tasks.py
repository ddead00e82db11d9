"""The scheduler's own records: one mutable `Task` per concrete task, and the graph between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from protocol.ids import AttemptId, RankId
from protocol.messages.checks import Probe
from protocol.messages.facts import LaunchFailed, RankExited
from protocol.messages.rank_spec import RankSpec, Success, TaskFile
from sflow_ctl.core.ranks import node_positions, rank_environments
from sflow_ctl.core.readiness import Readiness, probes_of_rank
from sflow_ctl.core.states import LIVE, TERMINAL, Reason, TaskState
from sflow_ctl.plan.assignment import assigned_argv, gpu_environment
from sflow_ctl.plan.deferred import DeferredValues
from sflow_ctl.plan.log_paths import earlier_log_path, log_path, rank_log_path
from sflow_ctl.plan.model import Dependency, Placement, Plan, PlannedTask, Until

NEEDS_IT_ALIVE = frozenset[Until]({"available", "ready"})
"""Who waits for one of these goes on needing the task: the others look at what has happened."""
DEFAULT_GRACE_S = 5.0
"""Between SIGTERM and SIGKILL of what an agent has when it leaves; the reference's value."""


@dataclass(slots=True)
class End:
    """How a stopping attempt will be judged once its tree is gone."""

    state: TaskState
    reason: Reason
    may_retry: bool = False
    is_repeated: bool = False
    """Another attempt follows, whatever the task's retries: this one did nothing wrong."""
    is_of_rank: bool = False
    """One of several ranks failed, and the others are ended because of it."""


@dataclass(slots=True)
class Condition:
    """`until` holds for enough members: what its dependants wait for. A group of replicas has one for all of them."""

    until: Until
    needed: int
    """How many members are enough."""
    possible: int
    """Members for which it holds or may still come to hold."""
    holding: int = 0
    """Members for which it holds now."""
    serving: int = 0
    """Members that are ready now: a service that has left holds what it was waited for, and serves no more."""
    dependants: list[int] = field(default_factory=list)

    @property
    def is_met(self) -> bool:
        """True when it holds for enough members now."""
        return self.holding >= self.needed


@dataclass(slots=True)
class Task:
    """Where a concrete task is, and what is known of its current attempt."""

    index: int
    plan: PlannedTask
    conditions: list[Condition] = field(default_factory=list)
    """Those it is a member of: through them others wait for this task."""
    met: frozenset[Until] = frozenset()
    """How far it has come, as dependants see it."""
    unmet: int = 0
    """ProbeWatcher it waits for that do not hold now."""
    is_serving: bool = False
    """Counted as such in its conditions."""
    is_delayed: bool = False
    """Waits for its next attempt's time."""
    is_kept: bool = False
    """Between two attempts in the same place: `taken` stays its own."""
    retries_used: int = 0
    restarted_at: list[float] = field(default_factory=list)
    """When it was started again in its place."""
    was_ready: bool = False
    """In its current attempt."""
    run_env: dict[str, str] = field(default_factory=dict)
    """What is known of the run when a task starts that begins at its end."""
    state: TaskState = TaskState.WAITING
    attempt: int = 0
    taken: Placement | None = None
    """What the current attempt occupies; kept until its tree is gone."""
    open_ranks: set[int] = field(default_factory=set)
    """Ranks whose main process has not been reported ended."""
    unstarted: set[int] = field(default_factory=set)
    """Ranks whose process has not been reported started."""
    node_of_rank: list[int] = field(default_factory=list)
    """Of the current attempt."""
    uncleared: set[int] = field(default_factory=set)
    """Ranks whose process tree may still exist."""
    readiness: Readiness = field(default_factory=Readiness)
    """Of the current attempt."""
    end: End | None = None
    exit_code: int | None = None
    signal: int | None = None
    launch_error: LaunchFailed | None = None
    failed_first: RankExited | None = None
    """Of the current attempt's ranks that failed by themselves, the one that ended first."""
    failed_rank: int | None = None
    """Of several: whose end, or failure to start, is the attempt's."""
    started_at: float | None = None
    node: int | None = None
    """Where its first rank runs or last ran."""
    gpus: tuple[int, ...] = ()
    pid: int | None = None
    last_reason: Reason | None = None
    """Of its last change of state."""
    early_readiness: str | None = None
    """It was ready before all of its ranks were known to have started: what was seen."""
    is_stop_sent: bool = False
    started_at_ns: dict[int, int] = field(default_factory=dict)
    """Per rank, when its process began, by the controller's clock."""
    failed_at_ns: int | None = None
    """When the first of its ranks failed, by the controller's clock."""
    is_unsent: bool = False
    """The attempt has begun, and no agent was told to start anything of it: it waits for ports."""
    ports: Mapping[int, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    """By node, those of the current attempt."""
    filled: PlannedTask | None = None
    """The plan with what only the start of the current attempt told."""
    files: tuple[TaskFile, ...] = ()
    probes_on: dict[int, tuple[Probe, ...]] = field(default_factory=dict)
    """By node, where they are not those of the plan."""
    stolen: dict[int, str] = field(default_factory=dict)
    """By node: which port of the current attempt somebody else has, and who."""
    renewals: int = 0
    """Attempts that were made because of that, and do not count as retries."""
    quiet: dict[str, set[int]] = field(default_factory=dict)
    """Per kind of life, the ranks that show none."""

    @property
    def attempt_id(self) -> AttemptId:
        """The current (or last) attempt."""
        return AttemptId(self.plan.name, self.attempt)

    @property
    def is_live(self) -> bool:
        """True while a process of it exists or may exist, left-over children included."""
        return self.state in LIVE or bool(self.uncleared)

    @property
    def is_settled(self) -> bool:
        """True when the run needs nothing more of it: it has ended, or it is a service that is ready.

        What runs at the run's end is nothing that the end waits for.
        """
        if self.state in TERMINAL or self.plan.finally_when is not None:
            return True
        return self.state is TaskState.READY and self.plan.is_service

    def begin_attempt(self, taken: Placement, now: float) -> None:
        """Counts a new attempt on `taken`."""
        self.attempt += 1
        self.taken = taken
        self.node = taken.nodes[0]
        self.gpus = taken.gpus
        self.node_of_rank = [taken.nodes[position] for position in node_positions(self.plan.ranks_per_node)]
        self.open_ranks = set(range(len(self.node_of_rank)))
        self.uncleared = set(self.open_ranks)
        self.unstarted = set(self.open_ranks)
        self.end = None
        self.exit_code = self.signal = self.pid = None
        self.launch_error = self.failed_first = self.failed_rank = None
        self.started_at = now
        self.is_kept = self.was_ready = False
        self.early_readiness = None
        self.is_stop_sent = False
        self.started_at_ns = {}
        self.failed_at_ns = None
        self.quiet = {}
        self.is_unsent = True
        self.stolen = {}

    def fill_in(self, late: DeferredValues, ports: Mapping[int, Mapping[str, tuple[int, ...]]]) -> None:
        """All that the attempt needs is known: `ports` are its own, by node. Raises: ExpressionError."""
        self.ports = ports
        self.filled, self.files = late.filled_in(self.plan)
        self.probes_on = {}
        if self.plan.late and any(probe.on_node == "each" for probe in self.plan.probes):
            self.probes_on = {node: late.probes_on(self.plan, node, own) for node, own in ports.items()}
        self.is_unsent = False

    def never_sent(self) -> None:
        """The attempt is over before anything of it was ordered."""
        self.is_unsent = False
        self.open_ranks.clear()
        self.unstarted.clear()
        self.uncleared.clear()

    def note_stolen(self, rank: int, text: str) -> None:
        """A rank says who has a port of its node."""
        if text:
            self.stolen.setdefault(self.node_of_rank[rank], text)

    @property
    def node_of_cause(self) -> int | None:
        """Where the attempt's end was decided: the node of the rank that failed, else of the first."""
        if self.failed_rank is None or self.failed_rank >= len(self.node_of_rank):
            return self.node
        return self.node_of_rank[self.failed_rank]

    @property
    def has_hung(self) -> bool:
        """True when its attempt is ended because of a hang."""
        return self.end is not None and self.end.reason.word == "hang"

    @property
    def stop_limit_s(self) -> float:
        """Seconds that its own way to end may take, without what its node needs to make sure."""
        commands = [self.plan.stopping.command]
        if self.has_hung and self.plan.hang is not None:
            commands.append(self.plan.hang.command)
        timeouts = (command.timeout_s for command in commands if command is not None)
        return sum(timeouts, self.plan.stopping.grace_s)

    def ranks_on(self, node: int) -> set[int]:
        """Ranks of the current attempt that are on this node."""
        return {rank for rank, where in enumerate(self.node_of_rank) if where == node}

    @property
    def nodes_left(self) -> list[int]:
        """Nodes where something of the current attempt may still be."""
        return sorted({self.node_of_rank[rank] for rank in self.open_ranks | self.uncleared})

    def rank_specs(self, plan: Plan, stream: bool) -> list[tuple[int, RankSpec]]:
        """(node, order) for each rank of the current attempt."""
        assert self.taken is not None and self.filled is not None
        planned, name = self.filled, self.plan.name
        env = {**planned.env, "SFLOW_ATTEMPT": str(self.attempt), **self.run_env}
        nodes = [plan.nodes[index] for index in self.taken.nodes]
        argv = planned.argv
        if planned.placement.is_flexible:
            argv = assigned_argv(argv, planned.assigned_arguments, nodes)
            env["SFLOW_TASK_ASSIGNED_NODE_NAMES"] = ",".join(node.name for node in nodes)
            env["SFLOW_TASK_ASSIGNED_NODE_IPS"] = ",".join(node.address for node in nodes)
            env.update(gpu_environment(self.taken.gpus))
        own = rank_environments(planned, nodes, self.ports, plan.job_id)
        is_gang = len(own) > 1
        first_ranks = {node: rank for rank, node in reversed(list(enumerate(self.node_of_rank)))}
        return [
            (
                self.node_of_rank[rank],
                RankSpec(
                    rank=RankId(self.attempt_id, rank),
                    argv=argv,
                    launch_kind=planned.launch_kind,
                    env={**env, **extra},
                    cwd=planned.cwd,
                    log=rank_log_path(name, rank) if is_gang else log_path(name),
                    earlier_log=self._earlier_log(name, rank if is_gang else None),
                    stopping=self.plan.stopping,
                    hang=self.plan.hang,
                    probes=probes_of_rank(
                        self.probes_on.get(self.node_of_rank[rank], planned.probes),
                        is_first=rank == 0,
                        is_first_on_node=rank == first_ranks[self.node_of_rank[rank]],
                        world_size=len(own),
                    ),
                    stream=stream or is_gang,
                    gpus=self.gpus,
                    container=planned.container,
                    required_paths=planned.required_paths,
                    files=self.files if rank == first_ranks[self.node_of_rank[rank]] else (),
                    success=success_of_rank(planned.success, rank),
                    success_exit_codes=planned.success_exit_codes,
                    is_log_direct=planned.is_log_direct,
                ),
            )
            for rank, extra in enumerate(own)
        ]

    def _earlier_log(self, name: str, rank: int | None) -> str | None:
        return earlier_log_path(name, self.attempt - 1, rank) if self.attempt > 1 else None


def success_of_rank(success: Success | None, rank: int) -> Success | None:
    """What a rank must have done: the first one all of it, the others must not have printed what is forbidden."""
    if success is None or rank == 0:
        return success
    return Success(forbid=success.forbid) if success.forbid else None


def build_graph(plan: Plan) -> list[Task]:
    """One `Task` per concrete task, in plan order, linked by conditions. Linear in tasks and dependencies."""
    tasks = [Task(index=index, plan=planned) for index, planned in enumerate(plan.tasks)]
    by_name = {task.plan.name: [task] for task in tasks}
    by_base: dict[str, list[Task]] = {}
    for task in tasks:
        by_base.setdefault(task.plan.base, []).append(task)
    conditions: dict[Dependency, Condition] = {}
    for task in tasks:
        for dependency in task.plan.depends_on:
            condition = conditions.get(dependency)
            if condition is None:
                members = (by_base if dependency.is_group else by_name)[dependency.task]
                needed = members_needed(dependency, members)
                condition = conditions[dependency] = Condition(dependency.until, needed, len(members))
                for member in members:
                    member.conditions.append(condition)
            condition.dependants.append(task.index)
        # What runs at the end waits for the end as well.
        task.unmet = len(task.plan.depends_on) + (task.plan.finally_when is not None)
    return tasks


def members_needed(dependency: Dependency, members: list[Task]) -> int:
    """For how many of its members a dependency must hold: a failure of one is one of the group."""
    if dependency.until == "failed":
        return 1
    if dependency.is_group and dependency.until in NEEDS_IT_ALIVE:
        return members[0].plan.min_ready or len(members)
    return len(members)


def stop_levels(tasks: list[Task], chosen: Callable[[Task], bool]) -> list[list[int]]:
    """The chosen tasks in waves: all that depends on a task, however far, is in an earlier wave.

    Wave 0 first. Plan order is not topological, so the order is found here; a plan has no cycles.
    """
    level = [-1] * len(tasks)
    above: dict[int, int] = {}  # of a condition, by identity: the first wave that may stop its members
    waves: dict[int, list[int]] = {}
    for root in range(len(tasks)):
        stack = [root]
        while stack:
            index = stack[-1]
            if level[index] >= 0:
                stack.pop()
                continue
            unknown = [one for one in tasks[index].conditions if id(one) not in above]
            missing = [target for one in unknown for target in one.dependants if level[target] < 0]
            if missing:
                stack.extend(missing)
                continue
            for one in unknown:
                above[id(one)] = max(level[target] + chosen(tasks[target]) for target in one.dependants)
            stack.pop()
            level[index] = max((above[id(one)] for one in tasks[index].conditions), default=0)
            if chosen(tasks[index]):
                waves.setdefault(level[index], []).append(index)
    return [sorted(waves[number]) for number in sorted(waves)]
