"""Which nodes have free GPUs, found without a look at each. `resources.GpuLedger` keeps it."""

from collections.abc import Iterator, Mapping


class NodesByRoom:
    """Which nodes have how many free GPUs, as bits: a task need not look at a thousand full nodes to find one that is not."""

    def __init__(self, capacities: Mapping[int, int | None]) -> None:
        self._counts = {node: 0 for node, gpus in capacities.items() if gpus is not None}
        self._uncounted = sum(1 << node for node, gpus in capacities.items() if gpus is None)
        self._with: list[int] = []
        """Nodes with more than so many free GPUs, by the number."""
        self._chosen: dict[int, tuple[tuple[int, ...], int, bool]] = {}
        """Nodes of placements, by their identity: themselves, as bits, and whether they are in ascending order."""
        for node, gpus in capacities.items():
            if gpus is not None:
                self.change(node, gpus)

    def change(self, node: int, count: int) -> None:
        """Note how many free GPUs a node has now."""
        before, self._counts[node] = self._counts[node], count
        self._with += [0] * (count - len(self._with))
        for number in range(min(before, count), max(before, count)):
            self._with[number] ^= 1 << node

    def having(self, nodes: tuple[int, ...], count: int) -> Iterator[int]:
        """Yield those of the nodes that have so many free GPUs, at least one, in their order."""
        known = self._chosen.get(id(nodes))
        if known is None:
            bits = sum(1 << node for node in set(nodes))
            known = self._chosen[id(nodes)] = nodes, bits, list(nodes) == sorted(nodes)
        _, bits, is_ascending = known
        left = bits & ((self._with[count - 1] if count <= len(self._with) else 0) | self._uncounted)
        if not is_ascending:
            yield from (node for node in nodes if left >> node & 1)
            return
        while left:
            lowest = left & -left
            left ^= lowest
            yield lowest.bit_length() - 1
