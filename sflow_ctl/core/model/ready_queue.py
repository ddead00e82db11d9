"""Tasks that may start, in plan order, and those without room, grouped by their needs.

Tasks with the same placement need the same room, so only the first of each group is tried again when
resources come free: the cost is per group, not per waiting task.
"""

from heapq import heappop, heappush

from sflow_ctl.plan.model import Placement


class ReadyQueue:
    """Indices of startable tasks. Pop, and either start the task or `block` it."""

    def __init__(self) -> None:
        self._ready: list[int] = []
        self._blocked: dict[Placement, list[int]] = {}

    def push(self, index: int) -> None:
        """Add a task that may start."""
        heappush(self._ready, index)

    def pop(self) -> int | None:
        """Return the first task in plan order that is worth trying, or None."""
        return heappop(self._ready) if self._ready else None

    def block(self, index: int, placement: Placement) -> None:
        """Put back a task for which there was no room."""
        heappush(self._blocked.setdefault(placement, []), index)

    def first_blocked(self) -> int | None:
        """Return the first task in plan order that found no room, or None."""
        return min((group[0] for group in self._blocked.values()), default=None)

    def retry_like(self, placement: Placement) -> None:
        """Note that one of this kind was started: the next of its kind may fit as well."""
        self._unblock_first(placement)

    def retry_all(self) -> None:
        """Note that resources came free: the first of every kind is worth trying."""
        for placement in list(self._blocked):
            self._unblock_first(placement)

    def _unblock_first(self, placement: Placement) -> None:
        group = self._blocked.get(placement)
        if group:
            heappush(self._ready, heappop(group))
            if not group:
                del self._blocked[placement]
