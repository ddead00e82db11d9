"""The state of one run: tasks, nodes, free GPUs, queue, timers, phase. Data and queries only.

Tasks change their state through `transitions`; the phase changes through `Run.enter`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from msgspec import Struct, field

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import Hello
from protocol.messages.handover import FoundOutput
from sflow_ctl.core.cells import Cells
from sflow_ctl.core.model.phase import RUN_TRANSITIONS, RunPhase, Shutdown
from sflow_ctl.core.model.port_leases import Leases
from sflow_ctl.core.model.ready_queue import ReadyQueue, shuffled
from sflow_ctl.core.model.resources import ClaimLedger, GpuLedger, HostLedger, PlacesNow, StartWindows
from sflow_ctl.core.model.stop_order import Revising
from sflow_ctl.core.model.tally import Tally
from sflow_ctl.core.model.task import Links, Task, build_graph
from sflow_ctl.core.model.timers import AttemptTimer, Timers
from sflow_ctl.core.requests import Plans, RequestBook, no_plans
from sflow_ctl.core.states import TERMINAL, FirstCause, Outcome
from sflow_ctl.plan.copies.task_list import kinds_of, names_of
from sflow_ctl.plan.deferred import DeferredValues, Evaluator
from sflow_ctl.plan.model import Placement, Plan
from sflow_ctl.plan.parts.needs import HostNeeds


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


class Node(Struct):
    """The scheduler's record of one node's agent."""

    is_up: bool = False
    is_gone: bool = False
    is_held: bool = False
    """A spare node that has not taken the place of a lost one."""
    has_joined: bool = False
    is_held_up: bool = False
    """Its agent's loop stands still, though the agent lives: its tasks run, and their limits count."""
    is_ending: bool = False
    """Its agent ends by itself: nothing starts there until another one has joined."""
    agent_incarnation: int = 0
    followed_at: list[float] = field(default_factory=list)
    """When agents joined that had taken the place of one that died."""
    shares_run_directory: bool = True
    """False when its logs are streamed to the controller."""
    clock_ahead_ns: int = 0
    """To be added to the node's times; 0 where its clock agrees with the controller's."""
    fenced_until: float | None = None
    """Of a lost node: when nothing of the run can live there any more; None once that is known."""
    live: set[int] = field(default_factory=set)
    """Tasks whose current attempt has ranks, or leftovers, here."""
    reserved: set[int] = field(default_factory=set)
    """Tasks whose place here is reserved between two attempts."""

    @property
    def load(self) -> int:
        """How many tasks have a place here."""
        return len(self.live) + len(self.reserved)


class Run(Struct):
    """The scheduler's record of a run."""

    plan: Plan
    tasks: list[Task]
    index_of: dict[str, int]
    nodes: list[Node]
    node_names: list[str]
    awaited: set[int]
    """Nodes that have neither joined nor been given up: flexible tasks wait for them, to be spread."""
    ledger: GpuLedger
    claims: ClaimLedger
    kept: list[tuple[int, Placement]]
    """Tasks that have ended, and the GPUs that stay theirs until the run ends."""
    queue: ReadyQueue
    leases: Leases
    outputs: dict[str, dict[str, Any]]
    output_problems: dict[str, tuple[str, ...]]
    """Of completed tasks, by task name."""
    found: dict[str, dict[str, FoundOutput]]
    """What agents have found of the outputs of completed tasks, by task and name."""
    deferred: DeferredValues
    timers: Timers
    tally: Tally
    shutdown: Shutdown
    seeking: set[int] = field(default_factory=set)
    """Tasks whose attempt looks for its checkpoint, and some that do not any more: see `seekers`."""
    handing: set[int] = field(default_factory=set)
    """Tasks about whose outputs or inputs an agent is asked, and some about which none is any more: see `handovers`."""
    cells: Cells = field(default_factory=Cells)
    """The cells of sweeps."""
    windows: StartWindows = field(default_factory=StartWindows)
    requests: RequestBook = field(default_factory=RequestBook)
    """What operators have asked for."""
    hosts: HostLedger = field(default_factory=HostLedger)
    stream_logs: bool = False
    """The console shows output."""
    fence_s: float = 0.0
    """After how long without a controller an agent, or its guardian, has surely ended everything."""
    gone_at: float | None = None
    """When the run's nodes are taken away: the end of the Slurm job's time. None without a limit."""
    headroom_s: float = 0.0
    """How long before that the run stops."""
    margins: Margins = field(default_factory=Margins)
    is_job_ending: bool = False
    """Slurm has signalled the job's agents, and will kill: what it says of the job's time does not count any more."""
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
    awaiting_places: list[int] = field(default_factory=list)
    """Queued tasks that use the address of a task that has lost its node and has no other yet."""
    rendering: set[int] = field(default_factory=set)
    """Tasks whose deferred values are being evaluated."""
    deciding: set[int] = field(default_factory=set)
    """Queued tasks whose conditions are being evaluated."""
    awaiting_rendering: list[int] = field(default_factory=list)
    """Queued tasks that start once fewer are."""
    stuck_at: tuple[int, int] | None = None
    """The task of the last warning about missing room."""
    leaving_processes: set[str] = field(default_factory=set)
    """Tasks, as written, whose leftovers were warned of."""
    survivors: list[str] = field(default_factory=list)
    stale_messages: int = 0
    """Facts about attempts that are over, and all facts of nodes that were given up."""
    changed: set[int] = field(default_factory=set)
    """Tasks that have changed since the last checkpoint, and may not be open any more: see `core.checkpoint`."""
    foreign_messages: int = 0
    """Facts about ranks that were not placed on the node of the agent that sent them."""
    plans: Plans = no_plans
    """Where the plans of revisions are."""
    revising: Revising | None = None
    """A revision that still has tasks to stop."""
    links: Links | None = None
    """What links tasks that join; None until the plan first grows after a revision."""

    @classmethod
    def of(
        cls,
        plan: Plan,
        evaluator: Evaluator,
        *,
        stream_logs: bool,
        gone_at: float | None,
        fence_s: float,
        headroom_s: float,
        missing: frozenset[int],
        plans: Plans = no_plans,
        records: list[Task] | None = None,
    ) -> "Run":
        """Return the state of a run that has not begun; `missing` are nodes that it begins without.

        With `records` of the tasks it is that of one whose state is to be restored.
        """
        tasks = build_graph(plan) if records is None else records
        problems: dict[str, tuple[str, ...]] = {}
        nodes = [Node(is_gone=node.index in missing, is_held=node.is_spare) for node in plan.nodes]
        changed: set[int] = set()
        index_of = {name: index for index, name in enumerate(names_of(plan.tasks))}
        leases = Leases(plan, tasks, index_of, lambda node: nodes[node].is_gone, changed)
        outputs = dict(outputs_of_blocks(plan))
        found: dict[str, dict[str, FoundOutput]] = {}
        return cls(
            plan=plan,
            tasks=tasks,
            index_of=index_of,
            nodes=nodes,
            node_names=[node.name for node in plan.nodes],
            awaited={node.index for node in plan.nodes if not node.is_spare} - missing,
            ledger=GpuLedger(plan.nodes),
            claims=ClaimLedger(),
            kept=[],
            queue=shuffled(ReadyQueue(), plan, tasks),
            leases=leases,
            outputs=outputs,
            output_problems=problems,
            found=found,
            deferred=DeferredValues(
                plan, outputs, leases.ports_of, evaluator, PlacesNow(plan, tasks, index_of), problems, found
            ),
            timers=Timers(partial(_is_outdated, tasks)),
            tally=Tally.of(tasks) if records is None else Tally(),
            shutdown=Shutdown(),
            changed=changed,
            cells=Cells.of(plan, tasks),
            stream_logs=stream_logs,
            gone_at=gone_at,
            fence_s=fence_s,
            headroom_s=max(headroom_s, plan.stop_before_end_s or 0.0),
            plans=plans,
        )

    def renew_queue(self) -> None:
        """Empty the queue, for another plan."""
        self.queue = shuffled(ReadyQueue(), self.plan, self.tasks)

    def enter(self, phase: RunPhase) -> None:
        """Change the phase. Raises: InvalidTransitionError for a change that is not in the table."""
        if phase not in RUN_TRANSITIONS[self.phase]:
            raise InvalidTransitionError(f"run: {self.phase} -> {phase}")
        self.phase = phase

    def is_up(self, node: int) -> bool:
        """Return whether the node's agent is connected."""
        return self.nodes[node].is_up

    def host_share(self, hello: Hello) -> HostNeeds:
        """Return the CPUs and memory of an agent's node; agents of local backends share one machine."""
        inventory, planned = hello.inventory, self.plan.nodes[hello.node]
        cpus = inventory.cpus if inventory.cpus_given is None else inventory.cpus_given
        if planned.backend_type != "local":
            return HostNeeds(cpus=cpus, memory_bytes=inventory.memory_bytes)
        agents = sum(node.backend_type == "local" for node in self.plan.nodes)
        return HostNeeds(cpus=max(1, cpus // agents), memory_bytes=inventory.memory_bytes // agents)

    def streams(self, task: Task) -> bool:
        """Return whether the console shows output of the task, so that its agent has to send it."""
        return self.stream_logs and task.plan.console != "none"

    def takes_orders(self, node: int) -> bool:
        """Return whether the node's agent is connected and may have another order to start a rank."""
        here = self.nodes[node]
        return here.is_up and not here.is_held and not here.is_ending and self.windows.has_room(node)

    def is_open_to(self, task: Task) -> Callable[[int], bool]:
        """Return the predicate that says whether a task may start on a node now."""
        return lambda node: (
            self.takes_orders(node) and self.claims.allow(node, task) and self.hosts.has_room(node, task)
        )

    def spare_for(self, lost: int) -> int | None:
        """Return the spare node that shall take the place of a lost one, an agent that is connected first; None without one."""
        of_backend = (node.index for node in self.plan.nodes if node.backend == self.plan.nodes[lost].backend)
        held = [one for one in of_backend if self.nodes[one].is_held and not self.nodes[one].is_gone]
        return min(held, key=lambda one: (not self.nodes[one].is_up, one), default=None)

    def has_lost(self, placement: Placement) -> bool:
        """Return whether a node of a placement is lost, or a GPU that it names."""
        for node in placement.nodes:
            if self.nodes[node].is_gone:
                return True
        return self.ledger.has_lost(placement)

    def fenced_for_s(self, nodes: Iterable[int], now: float) -> float:
        """Return how long it takes until nothing of the run can live on any of these nodes that is lost."""
        ends = (self.nodes[node].fenced_until for node in nodes)
        return max((end - now for end in ends if end is not None), default=0.0)

    def task_named(self, name: str) -> Task:
        """Return the record of a task of the plan. Raises: KeyError; peers' names go through `current`."""
        return self.tasks[self.index_of[name]]

    def seekers(self) -> list[Task]:
        """Return the tasks whose attempt looks for its checkpoint."""
        self.seeking = {index for index in self.seeking if self.tasks[index].attempt.is_seeking}
        return [self.tasks[index] for index in sorted(self.seeking)]

    def handovers(self) -> list[Task]:
        """Return the tasks about whose outputs or inputs an agent is asked."""
        tasks = self.tasks
        self.handing = {
            index
            for index in self.handing
            if tasks[index].attempt.checking or tasks[index].attempt.finding_on is not None
        }
        return [tasks[index] for index in sorted(self.handing)]

    def is_current(self, attempt: AttemptId) -> bool:
        """Return whether this is the live attempt of a task; false for an unknown name."""
        index = self.index_of.get(attempt.task)
        if index is None:
            return False
        task = self.tasks[index]
        return task.attempt.number == attempt.number and task.is_live

    def is_here(self, node: int, rank: RankId) -> bool:
        """Return whether a rank belongs to a live attempt and was placed on this node."""
        return self.node_of(rank) == node and self.is_current(rank.attempt)

    def current(self, attempt: AttemptId) -> Task | None:
        """Return the task whose live attempt this is; count any other as stale and return None."""
        if self.is_current(attempt):
            return self.tasks[self.index_of[attempt.task]]
        self.stale_messages += 1
        return None

    def current_on(self, node: int, rank: RankId) -> Task | None:
        """Return the task if its live attempt has this rank on `node`, whose agent says something about it.

        A fact about another node's rank is counted as foreign, one about an older attempt as stale.
        """
        if self.node_of(rank) != node:
            self.foreign_messages += 1
            return None
        return self.current(rank.attempt)

    def first_rank_on(self, node: int, attempt: AttemptId) -> int:
        """Return the first rank of an attempt that was placed on a node; -1 for none."""
        index = self.index_of.get(attempt.task)
        places = () if index is None else self.tasks[index].places(attempt.number)
        return next((rank for rank, place in enumerate(places) if place == node), -1)

    def node_of(self, rank: RankId) -> int | None:
        """Return the node that a rank of any attempt was placed on; None for a rank that never was."""
        (name, attempt), number = rank
        index = self.index_of.get(name)
        if index is None or number < 0:
            return None
        places = self.tasks[index].places(attempt)
        return places[number] if number < len(places) else None

    def may_start(self, task: Task) -> bool:
        """Return whether a task that has not started may do so, as far as the run's phase goes."""
        if self.phase is RunPhase.DRAINING:
            return task.index in self.shutdown.branch
        return not self.is_ending_for(task)

    def may_return_from(self, node: int) -> bool:
        """Return whether a task that is on a node may start again: while a run ends, few may."""
        tasks = [self.tasks[index] for index in self.nodes[node].live]
        return any(self.may_start(task) and task.has_attempts_left for task in tasks)

    def is_work_done(self) -> bool:
        """Return whether nothing is left to run but what belongs to the run's end."""
        tally = self.tally
        if tally.has_mains and tally.mains_left == 0:
            return True
        if self.phase is RunPhase.DRAINING:
            branch = self.shutdown.branch
            is_still = not any(self.tasks[index].is_delayed for index in branch)
            return tally.jobs == 0 and is_still and self.deciding.isdisjoint(branch)
        return tally.unsettled == 0 and (not self.plan.keep_alive or tally.live == 0)

    def is_ending_for(self, task: Task) -> bool:
        """Return True once the run stops, except for tasks that run at its end."""
        if task.index in self.shutdown.branch:
            return False
        is_over = task.plan.finally_when is None or self.shutdown.is_forced or self.shutdown.are_finals_over
        return self.outcome is not None and is_over


def _is_outdated(tasks: Sequence[Task], timer: AttemptTimer) -> bool:
    """Return whether the attempt that a timer is about is over."""
    task = tasks[timer.task]
    is_over = task.state in TERMINAL and not task.is_live and not task.attempt.held
    return is_over or task.attempt.number != timer.attempt


def outputs_of_blocks(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the outputs of blocks that have ended, by the task that stands for each: the plan has them."""
    for task in kinds_of(plan.tasks) if plan.blocks else ():
        if task.block is not None and task.block.outputs is not None:
            yield task.name, task.block.outputs
