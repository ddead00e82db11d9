"""What each node has left: free GPUs, CPUs and memory, unclaimed nodes, room for further orders; where a placement fits now."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from protocol.ids import RankId
from protocol.messages.rank_spec import RankSpec
from sflow_ctl.core.gpu_groups import NodeGroups, Topology
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.nodes_by_room import NodesByRoom
from sflow_ctl.plan.assignment import place_view
from sflow_ctl.plan.model import Placement, Plan, PlannedNode
from sflow_ctl.plan.parts.needs import HostNeeds

MAX_RANKS = 256
"""What an agent starts in a quarter of a second: many round trips, so it never runs out of orders."""
MAX_BYTES = 4 * 1024 * 1024
"""Scripts, files and environments of those ranks."""

MAX_SHARED_SETS = 256
"""How many sets of GPUs that nodes have in common are looked at for a task of several nodes."""


class SavedLedger(Struct, frozen=True):
    """Which GPUs are free, as a checkpoint has it. Bit sets by node; None where GPUs are not counted."""

    turn: int
    lost: dict[int, int]
    free: dict[int, int | None]
    topology: dict[int, NodeGroups]


class GpuLedger:
    """Free GPU indices per node, as bit sets. A node whose GPUs were not counted gives without limit."""

    def __init__(self, nodes: tuple[PlannedNode, ...]) -> None:
        self._turn = 0
        self.lost: dict[int, int] = {}
        """The GPUs of a node that were lost, as bits: they are never free again."""
        self._free: dict[int, int | None] = {
            node.index: None if node.gpus is None else (1 << node.gpus) - 1 for node in nodes
        }
        self._capacity = {node.index: node.gpus for node in nodes}
        self._with_free = NodesByRoom({node.index: node.gpus for node in nodes})
        self.topology = Topology()

    def take(self, placement: Placement, is_up: Callable[[int], bool]) -> Placement | None:
        """The fixed placement now taken for `placement`, or None when there is no room at present."""
        if placement.is_shared and not placement.is_flexible:
            return placement if all(map(is_up, placement.nodes)) else None
        if not placement.is_flexible:
            mask = _mask(placement.gpus)
            for node in placement.nodes:
                if not (is_up(node) and self._has(node, mask)):
                    return None
            self._take(placement.nodes, mask)
            return placement
        wanted = placement.gpus_per_node
        if wanted == 0:
            return self._next_nodes(placement, is_up)
        common: dict[int, list[int]] = {}
        for node in self._with_free.having(placement.nodes, wanted):
            if not is_up(node):
                continue
            lowest = self._chosen(node, placement)
            if lowest is None:
                continue
            # Every node of a task gets the same indices, as the format promises.
            group = common.setdefault(lowest, [])
            group.append(node)
            if len(group) == placement.node_count:
                self._take(tuple(group), lowest)
                return Placement(nodes=tuple(group), gpus=_indices(lowest), gpus_per_node=wanted)
        return self._take_common(placement, is_up) if placement.node_count > 1 else None

    def _take_common(self, placement: Placement, is_up: Callable[[int], bool]) -> Placement | None:
        """Take GPUs that are free on enough nodes, though they are not the lowest free ones of each.

        The free GPUs that a group of nodes has in common are an intersection of some of their sets, and nodes have few different
        sets.
        """
        wanted, count = placement.gpus_per_node, placement.node_count
        nodes = [node for node in placement.nodes if is_up(node)]
        sets = {
            free for node in nodes if (free := self._free[node]) is not None and free.bit_count() >= wanted
        }
        shared = set(sets)
        for one in sets:
            if len(shared) > MAX_SHARED_SETS:
                break
            shared |= {both for other in shared if (both := one & other).bit_count() >= wanted}
        for common in sorted(shared):
            mask = self._of_free(nodes[0], common, placement)
            group = [node for node in nodes if self._has(node, mask)][:count]
            if len(group) == count:
                self._take(tuple(group), mask)
                return Placement(nodes=tuple(group), gpus=_indices(mask), gpus_per_node=wanted)
        return None

    def _next_nodes(self, placement: Placement, is_up: Callable[[int], bool]) -> Placement | None:
        """Return nodes for a task without GPUs: in turn, so that such tasks are spread."""
        nodes = placement.nodes
        start = self._turn % len(nodes)
        chosen: list[int] = []
        for step in range(len(nodes)):
            node = nodes[(start + step) % len(nodes)]
            if is_up(node):
                chosen.append(node)
                if len(chosen) == placement.node_count:
                    self._turn = start + step + 1
                    return Placement(nodes=tuple(sorted(chosen)))
        return None

    def release(self, taken: Placement) -> None:
        """Give back a placement of `take`."""
        if taken.is_shared:
            return
        mask = _mask(taken.gpus)
        for node in taken.nodes:
            free = self._free[node]
            if free is not None:
                self._set_free(node, (free | mask) & ~self.lost.get(node, 0))

    def lose(self, node: int, gpu: int) -> bool:
        """Give a GPU out no more; return whether it was there until now."""
        bit = 1 << gpu
        if self.lost.get(node, 0) & bit:
            return False
        self.lost[node] = self.lost.get(node, 0) | bit
        free = self._free.get(node)
        if free is not None:
            self._set_free(node, free & ~bit)
        return True

    def has_lost(self, placement: Placement) -> bool:
        """Return whether a GPU that a placement names is lost."""
        lost = self.lost
        return bool(lost) and any(lost.get(node, 0) & _mask(placement.gpus) for node in placement.nodes)

    def could_give(self, node: int, count: int) -> bool:
        """Return whether a node has so many GPUs that are not lost, in use or not."""
        capacity = self._capacity.get(node)
        return capacity is None or capacity - self.lost.get(node, 0).bit_count() >= count

    def saved(self) -> SavedLedger:
        """Return the ledger for a checkpoint."""
        return SavedLedger(self._turn, self.lost, self._free, self.topology.nodes)

    def restore(self, saved: SavedLedger) -> None:
        """Take the ledger of a checkpoint."""
        self._turn, self.lost, self.topology.nodes = saved.turn, saved.lost, saved.topology
        for node, free in saved.free.items():
            if free is not None:
                self._set_free(node, free)

    def _has(self, node: int, mask: int) -> bool:
        free = self._free[node]
        return free is None or free & mask == mask

    def _take(self, nodes: tuple[int, ...], mask: int) -> None:
        for node in nodes:
            free = self._free[node]
            if free is not None:
                self._set_free(node, free & ~mask)

    def _set_free(self, node: int, free: int) -> None:
        self._free[node] = free
        self._with_free.change(node, free.bit_count())

    def _chosen(self, node: int, placement: Placement) -> int | None:
        """Return the GPUs of a node that a flexible placement would get there; None without enough of them."""
        free, count = self._free[node], placement.gpus_per_node
        if free is None:
            lost = self.lost.get(node, 0)
            return _lowest_of(~lost & ((1 << (count + lost.bit_length())) - 1), count)
        if free.bit_count() < count:
            return None
        return self._of_free(node, free, placement)

    def _of_free(self, node: int, free: int, placement: Placement) -> int:
        """Return the GPUs that a placement gets of these: the lowest ones unless it says which would be better."""
        if placement.pack == "none" and placement.near == "none":
            return _lowest_of(free, placement.gpus_per_node)
        groups = self.topology.of(node)
        is_near_card = placement.near == "nic"
        return groups.choose(free, placement.gpus_per_node, placement.pack, is_near_card=is_near_card)


class ClaimLedger(Struct):
    """Which nodes tasks keep from others that ask for nodes or GPUs (`nodes.release_after`).

    Only where the planner leaves the places of a backend to the scheduler: its static plan keeps claims by itself.
    """

    owners: dict[int, int] = field(default_factory=dict)
    """The index of the task that has claimed a node."""

    def allow(self, node: int, task: Task) -> bool:
        """Return whether a task may start on a node, as far as claims go."""
        return not task.plan.heeds_claims or self.owners.get(node, task.index) == task.index

    def begin(self, task: Task, placement: Placement) -> None:
        """Claim the nodes of a task that starts, if it claims any."""
        if task.plan.claims_nodes_until is not None:
            self.owners |= dict.fromkeys(placement.nodes, task.index)

    def became_ready(self, task: Task) -> bool:
        """End the claim of a task that claims nodes until it is ready; return whether it had one."""
        return task.plan.claims_nodes_until == "task_ready" and self._end(task)

    def ended(self, task: Task) -> bool:
        """End the claim of a task that has ended, unless it holds until the run ends; return whether it had one."""
        return bool(self.owners) and task.plan.claims_nodes_until != "workflow_completion" and self._end(task)

    def _end(self, task: Task) -> bool:
        mine = [node for node, owner in self.owners.items() if owner == task.index]
        for node in mine:
            del self.owners[node]
        return bool(mine)


class HostLedger(Struct):
    """The CPUs and memory of each node, as far as tasks ask for them.

    A task that finds only ready services on a node starts there whatever it asks for: nothing else will become free, and what is
    asked for limits nothing.
    """

    capacity: dict[int, HostNeeds] = field(default_factory=dict)
    """Of the nodes whose agents have joined."""
    places: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """The nodes of the tasks that hold something, by index."""
    cpus: dict[int, int] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    """How much of a node is held."""
    starting: dict[int, set[int]] = field(default_factory=dict)
    """The tasks on a node that hold something and are not ready services."""

    def has_room(self, node: int, task: Task) -> bool:
        """Return whether a node has what a task asks for."""
        needs = task.plan.needs
        if needs is None or not self.starting.get(node):
            return True
        total = self.capacity[node]
        return (
            self.cpus.get(node, 0) + needs.cpus <= total.cpus
            and self.memory.get(node, 0) + needs.memory_bytes <= total.memory_bytes
        )

    def begin(self, task: Task, nodes: tuple[int, ...]) -> None:
        """Note that an attempt of a task begins on these nodes; it may hold them already, from the attempt before."""
        if task.plan.needs is None:
            return
        if task.index not in self.places:
            self.places[task.index] = nodes
            self._count(task.plan.needs, nodes, 1)
        for node in nodes:
            self.starting.setdefault(node, set()).add(task.index)

    def became_ready(self, task: Task) -> bool:
        """Note that a task is ready; return whether others may have waited for that."""
        places = self.places.get(task.index, ())
        for node in places:
            self.starting[node].discard(task.index)
        return bool(places)

    def ended(self, task: Task) -> None:
        """Free what a task holds."""
        if task.index not in self.places:
            return
        self.became_ready(task)
        nodes = self.places.pop(task.index)
        if task.plan.needs is not None:
            self._count(task.plan.needs, nodes, -1)

    def _count(self, needs: HostNeeds, nodes: tuple[int, ...], sign: int) -> None:
        for node in nodes:
            self.cpus[node] = self.cpus.get(node, 0) + sign * needs.cpus
            self.memory[node] = self.memory.get(node, 0) + sign * needs.memory_bytes


class _Window(Struct):
    """The unanswered orders of one node: the bytes of each rank's."""

    unanswered: dict[RankId, int] = field(default_factory=dict)
    size: int = 0


class StartWindows(Struct):
    """How many orders to start ranks an agent may have that it has not answered, by node.

    An agent starts about a thousand processes a second. Were all orders sent at once, it would read for minutes before it
    answered, and what is repeated to a slow agent would grow with the run. With a window the orders of a run that may start
    100,000 tasks are as many bytes on the link as those of 300.
    """

    max_ranks: int = MAX_RANKS
    max_bytes: int = MAX_BYTES
    _windows: dict[int, _Window] = field(default_factory=dict)
    _full: set[int] = field(default_factory=set)

    def has_room(self, node: int) -> bool:
        """Return whether a node's agent may have another order. The last one may be larger than what is left."""
        return node not in self._full

    def are_all_full(self, node_count: int) -> bool:
        """Return whether none of so many nodes may have another order."""
        return len(self._full) >= node_count

    def ordered(self, node: int, spec: RankSpec) -> None:
        """Count an order."""
        window = self._windows.get(node)
        if window is None:
            window = self._windows[node] = _Window()
        size = _size(spec)
        window.size += size - window.unanswered.get(spec.rank, 0)
        window.unanswered[spec.rank] = size
        if self._is_full(window):
            self._full.add(node)

    def answered(self, node: int, rank: RankId) -> bool:
        """Take in that a rank was started, or never will be; return whether the node has room again."""
        window = self._windows.get(node)
        if window is None:
            return False
        window.size -= window.unanswered.pop(rank, 0)
        if node not in self._full or self._is_full(window):
            return False
        self._full.discard(node)
        return True

    def forget(self, node: int) -> None:
        """Forget the orders of a node whose agent is lost, or was started again: it will not answer them."""
        self._windows.pop(node, None)
        self._full.discard(node)

    def unanswered(self, node: int) -> set[RankId]:
        """Return the ranks whose orders a node's agent has not answered."""
        window = self._windows.get(node)
        return set() if window is None else set(window.unanswered)

    def saved(self) -> list[tuple[int, list[tuple[RankId, int]]]]:
        """Return the unanswered orders of each node for a checkpoint."""
        return [(node, list(window.unanswered.items())) for node, window in self._windows.items()]

    def restore(self, saved: list[tuple[int, list[tuple[RankId, int]]]]) -> None:
        """Take the unanswered orders of a checkpoint."""
        self._windows = {node: _Window(dict(sizes), sum(dict(sizes).values())) for node, sizes in saved}
        self._full = {node for node, window in self._windows.items() if self._is_full(window)}

    def _is_full(self, window: _Window) -> bool:
        return len(window.unanswered) >= self.max_ranks or window.size >= self.max_bytes


class PlacesNow:
    """Where tasks run that were moved from their planned nodes, for deferred expressions."""

    def __init__(self, plan: Plan, tasks: Sequence[Task], index_of: Mapping[str, int]) -> None:
        self._nodes, self._tasks, self._index_of = plan.nodes, tasks, index_of

    def __call__(self, name: str) -> Mapping[str, Any]:
        """Return the facts of a task's place that differ from the plan's."""
        task = self._tasks[self._index_of[name]]
        place, planned = task.attempt.place, task.plan.placement
        if place is None or planned.is_flexible or place == planned:
            return {}
        return place_view([self._nodes[node] for node in place.nodes], place.gpus)


def _mask(indices: tuple[int, ...]) -> int:
    mask = 0
    for index in indices:
        mask |= 1 << index
    return mask


def _lowest_of(free: int, count: int) -> int:
    """Return the lowest `count` bits of a set that has as many."""
    mask = 0
    for _ in range(count):
        lowest = free & -free
        mask |= lowest
        free ^= lowest
    return mask


def _indices(mask: int) -> tuple[int, ...]:
    return tuple(index for index in range(mask.bit_length()) if mask >> index & 1)


def _size(spec: RankSpec) -> int:
    """Return about how many bytes an order has."""
    return (
        sum(map(len, spec.argv))
        + sum(map(len, spec.env.values()))
        + sum(len(file.content) for file in spec.files)
    )
