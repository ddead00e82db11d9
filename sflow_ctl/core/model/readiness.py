"""Decides when an attempt is ready: which nodes' agents must report, and what each of them still waits for.

Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

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
    that any rank may print with every rank. Of a list, this is decided for each entry.
    """
    result = []
    for probe in probes:
        parts: list[Probe] = []
        for part in probe.parts:
            if _is_of_all_ranks(part, world_size):
                parts.append(_share_of(part, world_size))
            elif is_first or (is_first_on_node and part.on_node == "each"):
                parts.append(part)
        if len(parts) == 1:
            result.append(msgspec.structs.replace(parts[0], also=()))
        elif parts:
            result.append(msgspec.structs.replace(parts[0], also=tuple(parts[1:])))
    return tuple(result)


def ranks_needed(probes: tuple[Probe, ...], world_size: int) -> dict[int, int]:
    """Return how many ranks must have seen their share of a pattern, by entry of the list; of others, the nodes count."""
    needed = {}
    for part in (part for probe in probes if probe.kind == "readiness" for part in probe.parts):
        if _is_of_all_ranks(part, world_size):
            count = _pattern(part).count
            needed[part.part] = min(world_size, -(-count // _matches_each(count, world_size)))
    return needed


def _is_of_all_ranks(part: Probe, world_size: int) -> bool:
    match part.checks:
        case (LogCheck(task=None),):
            return world_size > 1 and part.on_node == "first"
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


class _Part(Struct, omit_defaults=True):
    """One entry of a list of readiness probes, or the only probe."""

    nodes: set[int]
    """Nodes that have not reported it."""
    needed: int | None = None
    """How many of the ranks must have seen it; None if each of `nodes` must."""
    ranks: set[int] = field(default_factory=set)
    """Ranks that have seen it."""
    watched: set[int] = field(default_factory=set)
    """Ranks that were sent it and still run: a probe ends with its rank."""
    detail: str = ""
    """What was seen last."""

    @property
    def is_met(self) -> bool:
        """Return whether it has been true."""
        return not self.nodes if self.needed is None else len(self.ranks) >= self.needed

    def cannot_be_met(self, gone: int) -> bool:
        """Take in that a rank has ended; return True when it can no longer be met."""
        if gone not in self.watched:
            return False
        self.watched.discard(gone)
        if self.needed is None:
            return gone not in self.ranks
        return len(self.ranks | self.watched) < self.needed


class Readiness(Struct, omit_defaults=True):
    """The progress of one attempt towards being ready: of a list of probes, each must have been true once."""

    total: int = 0
    """Nodes that were ordered to watch for it."""
    missing: dict[int, str] = field(default_factory=dict)
    """Nodes that have not reported all of it, and what they last waited for."""
    parts: dict[int, _Part] = field(default_factory=dict)
    """The probes by their positions in the list."""

    @classmethod
    def of(
        cls, specs: Iterable[tuple[int, RankSpec]], needed: Mapping[int, int] = MappingProxyType({})
    ) -> "Readiness":
        """Return the readiness of a new attempt: every node with a probe must report it, or `needed` of the ranks."""
        parts: dict[int, _Part] = {}
        nodes: dict[int, str] = {}
        for node, spec in specs:
            for probe in (one for whole in spec.probes if whole.kind == "readiness" for one in whole.parts):
                part = parts.setdefault(probe.part, _Part(set(), needed.get(probe.part)))
                part.nodes.add(node)
                part.watched.add(spec.rank.rank)
                nodes[node] = ""
        return cls(len(nodes), nodes, parts)

    @property
    def is_met(self) -> bool:
        """Return whether each probe has been true."""
        return all(part.is_met for part in self.parts.values())

    @property
    def detail(self) -> str:
        """Return what was seen of the probes."""
        return "; ".join(part.detail for part in self.parts.values() if part.detail)

    def is_late(self, number: int) -> bool:
        """Return whether the probe at this position has not been true; True before the attempt's ranks are ordered."""
        return number not in self.parts or not self.parts[number].is_met

    def seen(self, node: int, rank: int = 0, number: int = 0, detail: str = "") -> bool:
        """Take in that a probe of a rank has triggered; return True when the attempt is ready now.

        A probe that no rank was sent is ignored: it comes from the wire.
        """
        part = self.parts.get(number)
        if part is None:
            return False
        part.ranks.add(rank)
        part.detail = detail
        if part.needed is None:
            part.nodes.discard(node)
        if all(node not in one.nodes for one in self.parts.values()):
            self.missing.pop(node, None)
        return self.is_met

    def rank_gone(self, rank: int) -> bool:
        """Take in that a rank has ended; return True when the attempt can no longer become ready."""
        hopeless = [part for part in self.parts.values() if part.cannot_be_met(rank)]
        return bool(hopeless)

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
