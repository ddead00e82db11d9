"""Decides when an attempt is ready: which nodes' agents must report, and what each of them still waits for.

Pure.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct, field

from protocol.messages.checks import LogCheck, LogPattern, Probe
from protocol.messages.rank_spec import RankSpec

SHOWN_NODES = 3


def probes_of_rank(
    probes: tuple[Probe, ...], *, is_first: bool, is_first_on_node: bool, world_size: int = 1
) -> tuple[Probe, ...]:
    """Return the probes that go with one rank of an attempt.

    All of them go with the first rank, those of every node with the first rank of each, and those of output
    that any rank may print with every rank.
    """
    result = []
    for probe in probes:
        if _is_of_all_ranks(probe, world_size):
            result.append(_share_of(probe, world_size))
            continue
        parts = [part for part in probe.parts if is_first or (is_first_on_node and part.on_node == "each")]
        if len(parts) == len(probe.parts):
            result.append(probe)
        elif parts:  # of a list, the entries that every node has
            result.append(msgspec.structs.replace(parts[0], also=tuple(parts[1:])))
    return tuple(result)


def ranks_needed(probes: tuple[Probe, ...], world_size: int) -> int | None:
    """Return how many ranks must have seen their share of a readiness pattern; None where nodes count."""
    for probe in probes:
        if probe.kind == "readiness" and _is_of_all_ranks(probe, world_size):
            count = _pattern(probe).count
            return min(world_size, -(-count // _matches_each(count, world_size)))
    return None


def _is_of_all_ranks(probe: Probe, world_size: int) -> bool:
    match probe.all_checks:
        case (LogCheck(task=None),):
            return world_size > 1 and probe.on_node == "first"
        case _:
            return False


def _pattern(probe: Probe) -> LogPattern:
    """Return the pattern of a probe whose only check is of a log."""
    (check,) = probe.checks
    assert isinstance(check, LogCheck)
    return check.pattern


def _matches_each(count: int, world_size: int) -> int:
    return -(-count // world_size)


def _share_of(probe: Probe, world_size: int) -> Probe:
    """Return the probe with a rank's share of its count: the format counts matches over all processes.

    Each rank's agent counts its own, so a rank counts for as many as an even share: exact where ranks print it equally
    often, which is why a file asks for a number.
    """
    pattern = _pattern(probe)
    share = msgspec.structs.replace(pattern, count=_matches_each(pattern.count, world_size))
    return msgspec.structs.replace(probe, checks=(LogCheck(pattern=share),))


class Readiness(Struct):
    """The progress of one attempt towards being ready."""

    total: int = 0
    """Nodes that were ordered to watch for it."""
    missing: dict[int, str] = field(default_factory=dict)
    """Nodes that have not reported it, and what they last waited for."""

    needed: int | None = None
    """How many of the ranks must have seen it; None if every node in `missing` must."""
    ranks: set[int] = field(default_factory=set)
    """Ranks that have seen it."""
    watched: set[int] = field(default_factory=set)
    """Ranks that were sent a readiness probe and still run: a probe ends with its rank."""

    @classmethod
    def of(cls, specs: Iterable[tuple[int, RankSpec]], needed: int | None = None) -> "Readiness":
        """Return the readiness of a new attempt: every node with a readiness probe must report it, or `needed` of the ranks."""
        watched = [
            (node, spec.rank.rank)
            for node, spec in specs
            if any(probe.kind == "readiness" for probe in spec.probes)
        ]
        nodes = {node: "" for node, _ in watched}
        return cls(len(nodes), nodes, needed, watched={rank for _, rank in watched})

    def seen(self, node: int, rank: int = 0) -> bool:
        """Take in that a rank's probe has triggered; return True when the attempt is ready now."""
        self.ranks.add(rank)
        if self.needed is not None:
            return len(self.ranks) >= self.needed
        self.missing.pop(node, None)
        return not self.missing

    def rank_gone(self, rank: int) -> bool:
        """Take in that a rank has ended; return True when the attempt can no longer become ready."""
        if rank not in self.watched:
            return False
        self.watched.discard(rank)
        if self.needed is None:
            return rank not in self.ranks
        return len(self.ranks | self.watched) < self.needed

    def waits(self, node: int, detail: str) -> bool:
        """Take in what a node waits for; return False when it is unchanged."""
        if node not in self.missing or self.missing[node] == detail:
            return False
        self.missing[node] = detail
        return True

    def text(self, names: Sequence[str]) -> str:
        """Return what is awaited; `names` are those of all nodes. Empty before the first report."""
        said = {node: detail for node, detail in self.missing.items() if detail}
        if self.total <= 1:
            return "".join(said.values())
        parts = [f"{names[node]}: {detail}" for node, detail in sorted(said.items())[:SHOWN_NODES]]
        if len(said) > SHOWN_NODES:
            parts.append("...")
        count = f"ready on {self.total - len(self.missing)} of {self.total} nodes"
        return f"{count} ({'; '.join(parts)})" if parts else count
