"""The scheduler's record of a concrete task, the requirements between tasks, and the graph of a plan.

The state of one attempt is in `attempt.Attempt`.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import Struct, field

from protocol.ids import AttemptId
from protocol.messages.handover import CheckpointBase, ResumeKind
from sflow_ctl.core.model.attempt import NOT_STARTED, Attempt
from sflow_ctl.core.states import LIVE, TERMINAL, Reason, TaskState
from sflow_ctl.plan.copies.task_list import Copies, kind_of, parts_of
from sflow_ctl.plan.model import Dependency, Placement, Plan, PlannedTask
from sflow_ctl.plan.words import Until

NEEDS_IT_ALIVE = frozenset[Until]({"available", "ready"})
"""Dependants with one of these need the task to keep serving; for the others a past state is enough."""


NOTHING: Mapping[Any, Any] = MappingProxyType({})
"""Nearly every one of 100,000 tasks has none of something: they share this."""


_FAILED = frozenset({TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST})
BY_ITEMS = frozenset[Until]({"available", "completed"})
"""What holds for single items of a task that has failed with others."""


class Address(NamedTuple):
    """Nodes and ports of an attempt."""

    nodes: tuple[int, ...]
    ports: Mapping[int, Mapping[str, tuple[int, ...]]]
    """By node and name."""


class Requirement(Struct):
    """`until` holds for enough members. All dependants of a group of replicas share one requirement."""

    until: Until
    needed: int
    """How many members are enough."""
    possible: int
    """Members for which it holds or may still come to hold."""
    holding: int = 0
    """Members for which it holds now."""
    serving: int = 0
    """Members that are ready now. A service that has ended keeps what it reached, but no longer serves."""
    dependants: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)
    """The tasks that it is about."""

    @property
    def is_met(self) -> bool:
        """Return whether it holds for enough members now."""
        return self.holding >= self.needed


class Task(Struct):
    """The state of a concrete task, over all of its attempts."""

    index: int
    plan: PlannedTask
    state: TaskState = TaskState.WAITING
    last_reason: Reason | None = None
    """The reason of the last change of state."""
    attempt: Attempt = NOT_STARTED
    """The current or last one."""
    earlier_places: Mapping[int, Sequence[int]] = NOTHING
    """The nodes of the ranks and parts of earlier attempts, by the number of the attempt."""
    requirements: tuple[Requirement, ...] = ()
    """Conditions that this task is a member of: through them other tasks wait for it."""
    needs: tuple[Requirement, ...] = ()
    """Requirements that this task waits for."""
    met: frozenset[Until] = frozenset()
    """How far the task has come, for its dependants."""
    unmet: int = 0
    """Conditions that the task waits for and that do not hold now."""
    counted_left: int = 0
    """What `share_left` was when requirements were counted last."""
    is_serving: bool = False
    """Counted as serving in its requirements."""
    down_since: float | None = None
    """When a service that had been ready failed last."""
    started_after: float = 0.0
    """When its last attempt began: what had failed before is not why that one failed."""
    is_delayed: bool = False
    """Waiting until its next attempt is due."""
    is_reserved: bool = False
    """Between two attempts in the same place, which stays taken."""
    lent: Placement | None = None
    """Its place, if others may use its GPUs as well since it was ready; also that of its next attempts."""
    retries_used: int = 0
    restarted_at: tuple[float, ...] = ()
    """When it was restarted in its place."""
    renewals: int = 0
    """Attempts made because another process had a port of the task; they do not count as retries."""
    moves: int = 0
    """Attempts made elsewhere because a node was lost; they do not count as retries."""
    infra_used: int = 0
    """Attempts made after faults of nodes, of the budget for them."""
    tries_since: float | None = None
    """When the first of the attempts began that its `total_timeout` is for; None without one, and before."""
    placeless_since: float | None = None
    """When it was queued and first found no free place; None while it has not, or has no `queue_timeout`."""
    shunned: frozenset[int] = frozenset()
    """Nodes that its next attempts avoid, if others can take it."""
    may_run: bool = False
    """The condition under which it runs holds, or it has none that is not decided."""
    address: Address | None = None
    """Where its last attempt was started: the address that tasks which use it have."""
    follows_by: ResumeKind | None = None
    """How its next attempt follows the one before, if not as a retry."""
    checkpoint_base: CheckpointBase | None = None
    """What was said about checkpoints when it was run again."""
    run_env: Mapping[str, str] = NOTHING
    """Variables about the run, for a task that runs at the run's end."""
    next_plan: PlannedTask | None = None
    """What a revision has made of it: its plan once its present attempt has left its place. Until then it counts for no other."""

    @property
    def wanted(self) -> PlannedTask:
        """Return its plan, or the one that it will have."""
        return self.plan if self.next_plan is None else self.next_plan

    @property
    def positions(self) -> tuple[int, ...] | None:
        """Return the positions of the items that it is for; None for a task that is not for several."""
        item = self.plan.item
        return None if item is None else item.positions

    @property
    def share(self) -> int:
        """Return how many members of a requirement it is: one for each of its items, if these count one by one."""
        plan = self.wanted
        return 1 if plan.quorum is None or plan.item is None else len(plan.item.positions or (0,))

    @property
    def share_left(self) -> int:
        """Return how many of them have what is needed although the task has failed."""
        return self.attempt.items_done if self.state in _FAILED and self.share > 1 else 0

    def holding(self, until: Until) -> int:
        """Return for how many of its members `until` holds now."""
        return self.share if until in self.met else self.share_left if until in BY_ITEMS else 0

    def lacking(self, until: Until) -> int:
        """Return for how many of its members `until` does not hold now."""
        return self.share - self.holding(until)

    @property
    def attempt_id(self) -> AttemptId:
        """The current or last attempt."""
        return AttemptId(self.plan.name, self.attempt.number)

    @property
    def is_live(self) -> bool:
        """Return whether a process of the task exists or may exist, left-over children included."""
        return self.state in LIVE or bool(self.attempt.uncleared)

    @property
    def has_attempts_left(self) -> bool:
        """Return whether the file allows further attempts, restarts, or a start elsewhere."""
        return (
            self.retries_used < self.plan.retries.count
            or self.infra_used < self.plan.retries.infra_count
            or self.plan.restart is not None
            or self.plan.on_node_lost == "elsewhere"
        )

    @property
    def is_settled(self) -> bool:
        """Return whether the run need not wait for the task: it has ended, or is a ready service.

        Tasks at the run's end are never waited for.
        """
        state = self.state
        if state in TERMINAL or self.plan.finally_when is not None:
            return True
        return state is TaskState.READY and self.plan.is_service

    @property
    def is_working(self) -> bool:
        """Return whether the task will end, become ready or start again without a further event."""
        if self.is_delayed or self.state is not TaskState.READY:
            return self.is_delayed or self.state in LIVE
        return not self.plan.is_service

    @property
    def stop_commands_s(self) -> float:
        """Return the seconds that the commands before its stop signal may take."""
        commands = [self.plan.stopping.command]
        if self.attempt.has_hung and self.plan.hang is not None:
            commands.append(self.plan.hang.command)
        return sum(command.timeout_s for command in commands if command is not None)

    def places(self, attempt: int) -> Sequence[int]:
        """Return the nodes of an attempt's ranks and of the parts of its job step; empty for one that never began."""
        if attempt == self.attempt.number:
            return self.attempt.places
        return self.earlier_places.get(attempt, ())

    def begin_attempt(self, placement: Placement, now: float, step_nodes: Sequence[int] = ()) -> None:
        """Replace the attempt's record by a fresh one on `placement`; `step_nodes` are those that its job step may use."""
        self.is_reserved = False
        if self.attempt.node_of_rank:
            self.earlier_places = {**self.earlier_places, self.attempt.number: self.attempt.places}
        self.started_after = now
        number = self.attempt.number + 1
        self.attempt = Attempt.on(placement, number, self.plan.ranks_per_node, now, step_nodes)


def build_graph(plan: Plan) -> list[Task]:
    """Return one `Task` per concrete task, in plan order, linked by requirements. Linear in tasks and dependencies."""
    tasks = [Task(index=index, plan=planned) for index, planned in enumerate(plan.tasks)]
    link(tasks)
    return tasks


def link(tasks: Sequence[Task]) -> None:
    """Link tasks that have no requirements yet, and count them as if none had begun."""
    by_name: dict[str, list[Task]] = {}
    by_base: dict[str, list[Task]] = {}
    if any(task.wanted.depends_on for task in tasks):
        by_name = {task.plan.name: [task] for task in tasks}
        for task in tasks:
            if not task.wanted.removed_in and not task.wanted.is_grown:
                by_base.setdefault(task.plan.base, []).append(task)
    requirements: dict[Dependency, Requirement] = {}
    for task in tasks:
        plan = task.wanted
        for dependency in plan.depends_on:
            requirement = requirements.get(dependency)
            if requirement is None:
                members = (by_base if dependency.is_group else by_name)[dependency.task]
                size = sum(member.share for member in members)
                needed = members_needed(dependency, members[0].wanted, size)
                if needed == 0:  # it holds from the beginning, and nothing would ever say so
                    continue
                requirement = requirements[dependency] = Requirement(dependency.until, needed, size)
                for member in members:
                    member.requirements += (requirement,)
                    requirement.members.append(member.index)
            requirement.dependants.append(task.index)
            task.needs += (requirement,)
        # A task that runs at the run's end waits for that end as well.
        task.unmet = len(task.needs) + (plan.finally_when is not None)


class Links(Struct):
    """What finds the members of dependencies while a plan grows: made when it first does, and again after a revision."""

    groups: dict[str, list[int]]
    """The tasks as written with the indices of their concrete ones."""
    known: dict[Dependency, Requirement] = field(default_factory=dict)
    """The requirements that were made since."""
    _keys: dict[int, Dependency] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> "Links":
        """Return those of all tasks of a plan."""
        links, index = cls({}), 0
        for part in parts_of(plan.tasks):
            size = len(part) if isinstance(part, Copies) else 1
            links._take(kind_of(part), range(index, index + size))
            index += size
        return links

    def grow(self, changed: Task, tasks: Iterable[Task]) -> None:
        """Take in tasks that are new, and one that may stand for some of them from now on."""
        group = self.groups.get(changed.plan.base, [])
        if changed.wanted.is_grown and changed.index in group:
            group.remove(changed.index)
        for task in tasks:
            self._take(task.plan, (task.index,))

    def _take(self, plan: PlannedTask, indices: Iterable[int]) -> None:
        if not plan.removed_in and not plan.is_grown:
            self.groups.setdefault(plan.base, []).extend(indices)

    def forget(self, requirement: Requirement) -> None:
        """Have the next task that needs the same get another requirement."""
        key = self._keys.pop(id(requirement), None)
        if key is not None:
            del self.known[key]

    def requirement(
        self, dependency: Dependency, tasks: list[Task], index_of: Mapping[str, int]
    ) -> Requirement | None:
        """Return the requirement of a dependency, counted by how far its members are; None for one that always holds."""
        found = self.known.get(dependency)
        if found is not None:
            return found
        name = dependency.task
        members = [tasks[one] for one in (self.groups[name] if dependency.is_group else (index_of[name],))]
        size = sum(member.share for member in members)
        needed = members_needed(dependency, members[0].wanted, size)
        if needed == 0:
            return None
        found = self.known[dependency] = Requirement(dependency.until, needed, size)
        self._keys[id(found)] = dependency
        for member in members:
            member.requirements += (found,)
            found.members.append(member.index)
        count(found, members)
        return found


def count(requirement: Requirement, members: Sequence[Task]) -> None:
    """Count the members of a requirement by how far they have come."""
    until = requirement.until
    for task in members:
        task.counted_left = task.share_left
    requirement.holding = sum(task.holding(until) for task in members)
    requirement.serving = sum(task.is_serving for task in members)
    requirement.possible = sum(
        task.holding(until) if task.state in TERMINAL else task.share for task in members
    )


def members_needed(dependency: Dependency, member: PlannedTask, count: int) -> int:
    """Return for how many of `count` members such as `member` a dependency must hold: one failure is that of the group."""
    if dependency.until == "failed":
        return 1
    if dependency.is_group and member.quorum is not None and dependency.until in ("available", "completed"):
        return member.quorum.needed
    if dependency.is_group and dependency.until in NEEDS_IT_ALIVE:
        return member.min_ready or count
    return count
