"""When an attempt is ready: which nodes' agents must say so, and what each of them still waits for. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from protocol.messages import Probe, RankSpec

SHOWN_NODES = 3


def probes_of_rank(probes: tuple[Probe, ...], *, is_first: bool, is_first_on_node: bool) -> tuple[Probe, ...]:
    """The probes that go with one rank of an attempt: all with the first one, and those of every node with the
    first rank of each.
    """
    if is_first:
        return probes
    return tuple(probe for probe in probes if probe.on_node == "each") if is_first_on_node else ()


@dataclass(slots=True)
class Readiness:
    """One attempt on its way to being ready."""

    total: int = 0
    """Nodes that were told to watch for it."""
    missing: dict[int, str] = field(default_factory=dict)
    """Nodes that have not seen it, and what they said last that they wait for."""

    @classmethod
    def of(cls, specs: Iterable[tuple[int, RankSpec]]) -> "Readiness":
        """Whoever was sent a readiness probe must say that it has triggered."""
        nodes = {node: "" for node, spec in specs if any(probe.kind == "readiness" for probe in spec.probes)}
        return cls(len(nodes), nodes)

    def seen(self, node: int) -> bool:
        """A node's probe has triggered; True when no node is missing any more."""
        self.missing.pop(node, None)
        return not self.missing

    def waits(self, node: int, detail: str) -> bool:
        """A node says what it waits for; False when that is not news."""
        if node not in self.missing or self.missing[node] == detail:
            return False
        self.missing[node] = detail
        return True

    def text(self, names: Sequence[str]) -> str:
        """What is waited for; `names` are those of all nodes. Empty while nobody has said anything."""
        said = {node: detail for node, detail in self.missing.items() if detail}
        if self.total <= 1:
            return "".join(said.values())
        parts = [f"{names[node]}: {detail}" for node, detail in sorted(said.items())[:SHOWN_NODES]]
        if len(said) > SHOWN_NODES:
            parts.append("...")
        count = f"ready on {self.total - len(self.missing)} of {self.total} nodes"
        return f"{count} ({'; '.join(parts)})" if parts else count
