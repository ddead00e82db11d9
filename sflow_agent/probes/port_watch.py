"""Seeing a task's TCP port open: one dump of the node's listening sockets serves every waiting probe.

A port counts only when the right process listens on it: an old server of somebody else must not make a task ready.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from protocol.ids import ProbeKey, RankId
from sflow_agent.probes.socket_owner import OwnerScope, SocketOwners

LOOK_EVERY_S, LOOK_LATER_EVERY_S, EARLY_S = 0.005, 0.015, 2.0
"""The kernel tells nobody of a bind. A dump costs 0.05 ms, and is made only while some port is awaited: often
at first, where most servers come up, and then still often enough for 20 ms."""
STRANGER_EVERY_S = 0.25
"""How often a port is looked at again that somebody else listens on."""


@dataclass(slots=True)
class Awaited:
    """A port some probe looks at."""

    port: int
    whose: OwnerScope
    is_open: bool = False
    strangers: Collection[int] = frozenset()
    """Sockets that listen on it and are not the right one's."""
    strangers_until: float = 0.0
    stranger: str = ""
    """Who that is, as it was last told; empty when nobody was."""


class PortWatch:
    """The ports that probes wait for, and which of them are open by the right process."""

    def __init__(self, listeners: SocketOwners) -> None:
        self._listeners = listeners
        self._wanted: dict[tuple[RankId, ProbeKey], Awaited] = {}
        self._early_until = 0.0
        self._next_look = 0.0

    def next_wakeup(self) -> float | None:
        """When `look` is due, or None."""
        return self._next_look if self._wanted else None

    def add(self, key: ProbeKey, port: int, whose: OwnerScope, now: float) -> None:
        """Begins to watch for a port, for the probe `key` of a rank."""
        self._wanted[whose.rank, key] = Awaited(port, whose)
        self._early_until = now + EARLY_S
        self._next_look = min(self._next_look, now + LOOK_EVERY_S)

    def remove(self, rank: RankId, key: ProbeKey) -> None:
        """This probe needs nothing any more."""
        self._wanted.pop((rank, key), None)

    def look(self, now: float, mains: Mapping[int, RankId]) -> list[tuple[RankId, ProbeKey, bool, str]]:
        """(rank, key, is open, detail) of what has changed since the last look, when one is due.

        `mains` are the main processes of all ranks.
        """
        if not self._wanted or now < self._next_look:
            return []
        self._next_look = now + (LOOK_EVERY_S if now < self._early_until else LOOK_LATER_EVERY_S)
        sockets = self._listeners.look()
        changes = []
        for (rank, key), awaited in self._wanted.items():
            before = awaited.is_open, awaited.stranger
            self._look_at(awaited, sockets.get(awaited.port, set()), now, mains)
            if (awaited.is_open, awaited.stranger) != before:
                changes.append((rank, key, awaited.is_open, _detail(awaited)))
        return changes

    def _look_at(self, awaited: Awaited, inodes: set[int], now: float, mains: Mapping[int, RankId]) -> None:
        if not inodes:
            awaited.is_open, awaited.stranger, awaited.strangers = False, "", frozenset()
            return
        if awaited.is_open or (inodes == awaited.strangers and now < awaited.strangers_until):
            return
        stranger = self._listeners.stranger(awaited.whose, inodes, mains)
        awaited.is_open, awaited.stranger = stranger is None, stranger or ""
        awaited.strangers, awaited.strangers_until = inodes, now + STRANGER_EVERY_S


def _detail(awaited: Awaited) -> str:
    if awaited.stranger:
        return f"port {awaited.port} is taken by {awaited.stranger}"
    return f"port {awaited.port} {'is' if awaited.is_open else 'is not'} listening"
