"""Tasks that may start, in plan order, and those without room, grouped by their needs.

Tasks with the same placement need the same room, so only the first of each group is tried again when
resources come free: the cost is per group, not per waiting task.
"""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from msgspec import Struct

from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Placement, Plan
from sflow_ctl.plan.parts.needs import HostNeeds

if TYPE_CHECKING:
    from sflow_ctl.core.model.task import Task

Room = tuple[Placement, bool, HostNeeds | None]
"""What a task needs to start: a place, whether claims of nodes keep it away, and CPUs and memory."""


Ranges = list[tuple[int, int]]
"""Numbers in ascending order, each range by its first and last: 100,000 copies of a task are one of them."""


class SavedQueue(Struct, frozen=True):
    """The queue, as a checkpoint has it."""

    ready: Ranges
    blocked: list[tuple[Room, Ranges]]


class ReadyQueue:
    """Indices of startable tasks. Pop, and either start the task or `block` it."""

    def __init__(self) -> None:
        self._key_of: dict[int, int] = {}
        """Of tasks whose copies start in another order: what stands for each in the heaps, where keys are in plan order."""
        self._task_of: dict[int, int] = {}
        self._ready: list[int] = []
        self._blocked: dict[Room, list[int]] = {}
        self._nodes_of: dict[Room, frozenset[int]] = {}
        """The nodes of each room that was ever asked for: of a thousand nodes each one joins."""

    def push(self, index: int) -> None:
        """Add a task that may start."""
        heappush(self._ready, self._key_of.get(index, index))

    def shuffle(self, tasks: Iterable[tuple[str, int, int]]) -> None:
        """Have copies of tasks start in another order: each by its base, its index and its turn. None is in the queue."""
        groups: dict[str, list[tuple[int, int]]] = {}
        for base, index, turn in tasks:
            groups.setdefault(base, []).append((turn, index))
        for group in groups.values():
            keys = sorted(index for _, index in group)
            for key, (_, index) in zip(keys, sorted(group), strict=True):
                self._key_of[index], self._task_of[key] = key, index

    def pop(self) -> int | None:
        """Return the first task in plan order that is worth trying, or None."""
        if not self._ready:
            return None
        key = heappop(self._ready)
        return self._task_of.get(key, key)

    def block(self, index: int, room: Room) -> None:
        """Put back a task for which there was no room."""
        heappush(self._blocked.setdefault(room, []), self._key_of.get(index, index))

    def first_blocked(self) -> int | None:
        """Return the first task in plan order that found no room, or None."""
        key = min((group[0] for group in self._blocked.values()), default=None)
        return key if key is None else self._task_of.get(key, key)

    def retry_like(self, room: Room) -> None:
        """Note that one of this kind was started: the next of its kind may fit as well."""
        self._unblock_first(room)

    def retry_all(self) -> None:
        """Note that resources came free: the first of every kind is worth trying."""
        for room in list(self._blocked):
            self._unblock_first(room)

    def retry_on(self, node: int) -> None:
        """Note that a node's agent has joined: only kinds that may be there are worth trying."""
        for room in [one for one in self._blocked if node in self._nodes(one)]:
            self._unblock_first(room)

    def saved(self) -> SavedQueue:
        """Return the queue for a checkpoint."""
        return SavedQueue(
            _ranges(self._ready), [(room, _ranges(group)) for room, group in self._blocked.items()]
        )

    def restore(self, saved: SavedQueue) -> None:
        """Take the queue of a checkpoint."""
        self._ready = _numbers(saved.ready)  # an ascending list is a heap
        self._blocked = {room: _numbers(group) for room, group in saved.blocked}

    def _nodes(self, room: Room) -> frozenset[int]:
        if room not in self._nodes_of:
            self._nodes_of[room] = frozenset(room[0].nodes)
        return self._nodes_of[room]

    def _unblock_first(self, room: Room) -> None:
        group = self._blocked.get(room)
        if group:
            heappush(self._ready, heappop(group))
            if not group:
                del self._blocked[room]


def _ranges(numbers: Iterable[int]) -> Ranges:
    found: Ranges = []
    first = last = None
    for number in sorted(numbers):
        if first is None or last is None or number != last + 1:
            if first is not None and last is not None:
                found.append((first, last))
            first = number
        last = number
    if first is not None and last is not None:
        found.append((first, last))
    return found


def _numbers(ranges: Ranges) -> list[int]:
    return [number for first, last in ranges for number in range(first, last + 1)]


def shuffled(queue: ReadyQueue, plan: Plan, tasks: "Sequence[Task]") -> ReadyQueue:
    """Return a queue of tasks of which some start in another order than that of the plan."""
    kinds = kinds_of(plan.tasks)
    bases = {one.base for one in kinds if one.foreach is not None and one.foreach.seed is not None}
    if bases:
        queue.shuffle(turns_of(one for one in tasks if one.plan.base in bases))
    return queue


def turns_of(tasks: "Iterable[Task]") -> Iterator[tuple[str, int, int]]:
    """Yield the base, the index and the turn of each task that has one."""
    for one in tasks:
        plan = one.wanted
        if plan.item is not None and plan.item.turn is not None:
            yield plan.base, one.index, plan.item.turn
