"""Which of a node's free GPUs a task gets that wants its GPUs near each other, or near a network card. Pure, on bit sets."""

from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct, field

from protocol.messages.node import Gpu
from sflow_ctl.plan.words import Pack

MAX_GPUS = 1024
"""Of a node: an agent's inventory is not trusted."""


class NodeGroups(Struct):
    """The GPUs of a node that belong together, each group as bits; none where nothing is known."""

    nvlink: tuple[int, ...] = ()
    numa: tuple[int, ...] = ()
    with_card: int = 0
    """Those that have a network card near."""

    @classmethod
    def of(cls, gpus: Sequence[Gpu]) -> "NodeGroups":
        """Return the groups of an agent's GPUs."""
        known = [gpu for gpu in gpus if 0 <= gpu.index < MAX_GPUS]
        return cls(
            nvlink=_groups([(gpu.index, gpu.domain) for gpu in known]),
            numa=_groups([(gpu.index, gpu.numa) for gpu in known]),
            with_card=sum(1 << gpu.index for gpu in known if gpu.cards),
        )

    def choose(self, free: int, count: int, pack: Pack, *, is_near_card: bool) -> int:
        """Return `count` of the free GPUs: of one group if there is one with as many, of as few groups as possible if not.

        Of several groups the one with fewest free GPUs is taken, so that the others stay whole for larger tasks.
        """
        groups = {"nvlink": self.nvlink, "numa": self.numa, "none": ()}[pack]
        preferred = self.with_card if is_near_card else 0
        parts = [part for group in groups if (part := group & free)]
        rest = free & ~sum(parts)
        parts += [rest] if rest else []

        def rank(part: int) -> tuple[bool, int, int, int]:
            lacks_card = count - min((part & preferred).bit_count(), count) if preferred else 0
            return part == rest, lacks_card, part.bit_count(), part & -part

        whole = [part for part in parts if part.bit_count() >= count]
        if whole:
            return _take(min(whole, key=rank), count, preferred)
        chosen = 0
        for part in sorted(parts, key=lambda one: (-one.bit_count(), one & -one)):
            left = count - chosen.bit_count()
            chosen |= _take(part, min(left, part.bit_count()), preferred)
        return chosen


class Topology(Struct):
    """The groups of all nodes, by index."""

    nodes: dict[int, NodeGroups] = field(default_factory=dict)

    def of(self, node: int) -> NodeGroups:
        """Return the groups of a node."""
        return self.nodes.get(node, NodeGroups())


def _groups(numbered: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return the bits of each group; a negative number stands for none."""
    found: dict[int, int] = defaultdict(int)
    for index, number in numbered:
        if number >= 0:
            found[number] |= 1 << index
    return tuple(found[number] for number in sorted(found))


def _take(part: int, count: int, preferred: int) -> int:
    """Return the lowest `count` bits, preferred ones first."""
    chosen = 0
    for source in (part & preferred, part & ~preferred):
        while source and chosen.bit_count() < count:
            lowest = source & -source
            chosen |= lowest
            source ^= lowest
    return chosen
