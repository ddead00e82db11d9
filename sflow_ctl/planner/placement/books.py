"""Who has which GPUs and nodes of a backend while tasks are placed one after the other.

`TimeBook` is sflow 0.3.1's: a task may get what tasks before it have freed. `CursorBook` is sflow 0.2's: what is given is gone.
Node numbers count within the backend. Called by `place.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct, field


class Claimant(Struct, frozen=True, kw_only=True):
    """Who asks, and what others may have after it. Bits are those of `order.Ancestry`."""

    task: str = ""
    bit: int = 0
    before: int = 0
    """The bits of the tasks that come before it."""
    chain: int | None = None
    """Its position in a chain of sequential copies; None for all others."""
    frees_gpus: bool = False
    """Tasks after it may have its GPUs."""
    frees_nodes: bool = False
    """Tasks after it may have the nodes that it claims."""

    @property
    def kind(self) -> tuple[int, int, int | None]:
        """Return what decides which GPUs are kept from it."""
        return self.bit, self.before, self.chain

    def comes_after(self, other: "Claimant") -> bool:
        """Return whether this task starts only when the other one has freed what it frees."""
        if other.bit and self.before & other.bit:
            return True
        is_same = self.chain is not None and other.chain is not None and self.bit == other.bit
        return is_same and bool(self.bit) and (other.chain or 0) < (self.chain or 0)


class Book(Protocol):
    """Keeps the GPUs that have been given."""

    def start(self, node: int, count: int, capacity: int, claimant: Claimant) -> int | None:
        """Return the lowest GPU from which on the node has `count` for the claimant; None where it has not."""

    def are_free(self, node: int, gpus: Sequence[int], claimant: Claimant) -> bool:
        """Return whether these GPUs are free for the claimant."""

    def reserve(self, nodes: Sequence[int], gpus: Sequence[int], claimant: Claimant) -> None:
        """Give GPUs of nodes to the claimant."""

    def holders(self, node: int, claimant: Claimant) -> list[str]:
        """Return who keeps GPUs of the node from the claimant, with their numbers."""


class CursorBook:
    """One cursor for each node: GPUs below it have been given."""

    def __init__(self, nodes: int) -> None:
        self._cursors = [0] * nodes

    def start(self, node: int, count: int, capacity: int, claimant: Claimant) -> int | None:
        """Return the cursor if enough GPUs are left."""
        del claimant
        start = self._cursors[node]
        return start if start + count <= capacity else None

    def are_free(self, node: int, gpus: Sequence[int], claimant: Claimant) -> bool:
        """Return whether the GPUs are above the cursor."""
        del claimant
        return min(gpus) >= self._cursors[node]

    def reserve(self, nodes: Sequence[int], gpus: Sequence[int], claimant: Claimant) -> None:
        """Move the cursors."""
        del claimant
        for node in nodes:
            self._cursors[node] = max(self._cursors[node], max(gpus) + 1)

    def holders(self, node: int, claimant: Claimant) -> list[str]:
        """Return nothing: a cursor does not know whose GPUs are below it."""
        del node, claimant
        return []


class _Interval(NamedTuple):
    start: int
    end: int
    owner: Claimant


class TimeBook:
    """Intervals of GPUs with their owners.

    A task that gets an owner's GPUs keeps from others all that the owner would: so the part it gets replaces the owner's, and a
    node has no more intervals than GPUs.
    """

    def __init__(self, nodes: int) -> None:
        self._intervals: list[list[_Interval]] = [[] for _ in range(nodes)]

    def _against(self, node: int, claimant: Claimant) -> list[_Interval]:
        return [
            one
            for one in self._intervals[node]
            if not (one.owner.frees_gpus and claimant.comes_after(one.owner))
        ]

    def start(self, node: int, count: int, capacity: int, claimant: Claimant) -> int | None:
        """Return the lowest start of a run of GPUs that nothing keeps from the claimant."""
        start = 0
        for one in sorted(self._against(node, claimant), key=lambda one: one[:2]):
            if start + count <= one.start:
                return start
            start = max(start, one.end)
        return start if start + count <= capacity else None

    def are_free(self, node: int, gpus: Sequence[int], claimant: Claimant) -> bool:
        """Return whether nothing keeps these GPUs from the claimant."""
        return not any(one.start <= gpu < one.end for one in self._against(node, claimant) for gpu in gpus)

    def reserve(self, nodes: Sequence[int], gpus: Sequence[int], claimant: Claimant) -> None:
        """Give the GPUs; what their owners so far have of them is replaced."""
        taken = _runs(gpus)
        for node in nodes:
            kept = self._intervals[node]
            for start, end in taken:
                kept = [part for one in kept for part in _outside(one, start, end)]
            self._intervals[node] = [*kept, *(_Interval(start, end, claimant) for start, end in taken)]

    def holders(self, node: int, claimant: Claimant) -> list[str]:
        """Return who keeps which GPUs from the claimant, and why they are not free for it."""
        return [
            _held(one, claimant) for one in sorted(self._against(node, claimant), key=lambda one: one[:2])
        ]


def _held(one: _Interval, claimant: Claimant) -> str:
    numbers = str(one.start) if one.end == one.start + 1 else f"{one.start} to {one.end - 1}"
    why = "until the run ends"
    if one.owner.frees_gpus and not claimant.comes_after(one.owner):
        why = "and it need not have ended before"
    return f"{one.owner.task} has {numbers} {why}"


def _outside(one: _Interval, start: int, end: int) -> list[_Interval]:
    """Return the parts of an interval outside [start, end)."""
    if one.end <= start or one.start >= end:
        return [one]
    parts = [(one.start, min(one.end, start)), (max(one.start, end), one.end)]
    return [_Interval(low, high, one.owner) for low, high in parts if low < high]


def _runs(gpus: Sequence[int]) -> list[tuple[int, int]]:
    """Return numbers as contiguous intervals."""
    runs: list[tuple[int, int]] = []
    for gpu in sorted(gpus):
        if runs and runs[-1][1] == gpu:
            runs[-1] = (runs[-1][0], gpu + 1)
        else:
            runs.append((gpu, gpu + 1))
    return runs


class NodeClaims(Struct):
    """Which nodes are claimed, and by whom."""

    owners: dict[int, Claimant] = field(default_factory=dict)

    def is_free(self, node: int, claimant: Claimant) -> bool:
        """Return whether the node is not claimed, or its owner frees it before the claimant starts."""
        owner = self.owners.get(node)
        return owner is None or (owner.frees_nodes and claimant.comes_after(owner))

    def claim(self, nodes: Sequence[int], claimant: Claimant) -> None:
        """Claim nodes that are free for the claimant."""
        for node in nodes:
            self.owners[node] = claimant

    def owners_of(self, nodes: Sequence[int], claimant: Claimant) -> list[str]:
        """Return the tasks that keep nodes from the claimant."""
        return list(
            dict.fromkeys(self.owners[node].task for node in nodes if not self.is_free(node, claimant))
        )
