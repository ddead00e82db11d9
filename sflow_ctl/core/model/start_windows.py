"""Limits how many orders to start ranks an agent has not answered yet. `dispatch` and `reactor` call this.

An agent starts about a thousand processes a second. Were all orders sent at once, it would read for minutes before it
answered, and what is repeated to a slow agent would grow with the run. With a window the orders of a run that may start
100,000 tasks are as many bytes on the link as those of 300.
"""

from msgspec import Struct, field

from protocol.ids import RankId
from protocol.messages.rank_spec import RankSpec

MAX_RANKS = 256
"""What an agent starts in a quarter of a second: many round trips, so it never runs out of orders."""
MAX_BYTES = 4 * 1024 * 1024
"""Scripts, files and environments of those ranks."""


class _Window(Struct):
    """The unanswered orders of one node: the bytes of each rank's."""

    unanswered: dict[RankId, int] = field(default_factory=dict)
    size: int = 0


class StartWindows(Struct):
    """The window of each node."""

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
        window = self._windows.setdefault(node, _Window())
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

    def _is_full(self, window: _Window) -> bool:
        return len(window.unanswered) >= self.max_ranks or window.size >= self.max_bytes


def _size(spec: RankSpec) -> int:
    """Return about how many bytes an order has."""
    return (
        sum(map(len, spec.argv))
        + sum(map(len, spec.env.values()))
        + sum(len(file.content) for file in spec.files)
    )
