"""Chapter 8's pseudo-code, written again and independent of the planner: sflow's placement."""

from dataclasses import dataclass, field


class RefusedError(Exception):
    """The reference refuses the workflow."""


@dataclass
class Model:
    """One backend's nodes, with the reference's cursors. Every capacity is known here."""

    capacity: list[int]
    cursor: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cursor = [0] * len(self.capacity)

    def place(
        self,
        replica_index: int,
        sequential: bool,
        exclude: tuple[int, ...],
        indices: tuple[int, ...] | None,
        count: int | None,
        gpus: int | None,
    ) -> tuple[list[int], list[int]]:
        """(nodes, GPU ids) of a request, and the cursors moved."""
        nodes = self._nodes(replica_index, sequential, exclude, indices, count, gpus)
        if gpus is None:
            return nodes, []
        if len(nodes) == 1:
            node = nodes[0]
            if self.cursor[node] + gpus > self.capacity[node]:
                raise RefusedError
            ids = list(range(self.cursor[node], self.cursor[node] + gpus))
            self.cursor[node] += gpus
            return nodes, ids
        if gpus > sum(self.capacity[n] for n in nodes):
            raise RefusedError
        per = min(min(self.capacity[n] for n in nodes), -(-gpus // len(nodes)))
        if len({self.cursor[n] for n in nodes}) != 1:
            raise RefusedError
        if any(self.cursor[n] + per > self.capacity[n] for n in nodes):
            raise RefusedError
        start = self.cursor[nodes[0]]
        for n in nodes:
            self.cursor[n] += per
        return nodes, list(range(start, start + per))

    def _nodes(
        self,
        replica_index: int,
        sequential: bool,
        exclude: tuple[int, ...],
        indices: tuple[int, ...] | None,
        count: int | None,
        gpus: int | None,
    ) -> list[int]:
        if any(not 0 <= i < len(self.capacity) for i in exclude):
            raise RefusedError
        pool = [n for n in range(len(self.capacity)) if n not in exclude]
        if not pool or (indices is not None and count is not None):
            raise RefusedError
        if indices is not None:
            if any(not 0 <= i < len(pool) for i in indices):
                raise RefusedError
            return [pool[i] for i in indices]
        if count is not None:
            start = 0 if sequential else replica_index * count
            if start + count > len(pool):
                raise RefusedError
            return pool[start : start + count]
        if gpus is None:
            return pool
        for n in pool:
            if self.cursor[n] + gpus <= self.capacity[n]:
                return [n]
        cap = min(self.capacity)
        if gpus > cap:
            if gpus % cap:
                raise RefusedError
            k = gpus // cap
            free = [n for n in pool if self.cursor[n] + cap <= self.capacity[n]]
            for c in sorted({self.cursor[n] for n in free}):
                same = [n for n in free if self.cursor[n] == c]
                if len(same) >= k:
                    return same[:k]
            start = 0 if sequential else replica_index * k
            if start + k > len(pool):
                raise RefusedError
            return pool[start : start + k]
        return pool
