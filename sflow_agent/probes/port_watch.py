"""Notices when a task's TCP port opens: one dump of the node's listening sockets serves every waiting probe.

A port counts only when the right process listens on it, at the address that clients use: an old server of
another run, or one on the loopback device only, must not make a task ready. Called by `watcher`.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from protocol.ids import ProbeKey, RankId
from protocol.messages.facts import OTHER_ADDRESS, OTHER_PORT
from sflow_agent.probes.socket_owner import Judgement, OwnerScope, SocketOwners
from sflow_agent.probes.sockets import Listener, reached

LOOK_EVERY_S, LOOK_LATER_EVERY_S, EARLY_S = 0.005, 0.015, 2.0
"""The kernel does not report a bind. A dump costs 0.05 ms, and is made only while some port is awaited: often
at first, when most servers come up, and then still often enough for 20 ms."""
FOREIGN_EVERY_S = 0.25
"""How often a port is looked at again that a foreign process listens on."""
ELSEWHERE_EVERY_S = 2.0
"""How often the task's own processes are searched for other ports, while the awaited one is not open."""
SHOWN_PORTS = 5


class Awaited(Struct):
    """A port that a probe waits for."""

    port: int
    scope: OwnerScope
    host: str | None
    """The host as the check names it, for people."""
    addresses: Sequence[bytes] | None
    """Addresses that clients connect to; None is any."""
    is_open: bool = False
    text: str = ""
    """Why the port does not count, or counts only with a doubt."""
    judged: tuple[Listener, ...] = ()
    """The foreign listeners of the last judgement."""
    judged_until: float = 0.0
    elsewhere_at: float = 0.0
    """When the task's other ports are searched for again."""
    elsewhere: str = ""


class PortWatch:
    """The ports that probes wait for, and which of them are open by the right process."""

    def __init__(self, owners: SocketOwners) -> None:
        self._owners = owners
        self._wanted: dict[tuple[RankId, ProbeKey], Awaited] = {}
        self._early_until = 0.0
        self._next_look = 0.0

    def next_wakeup(self) -> float | None:
        """Return when `look` is due, or None."""
        return self._next_look if self._wanted else None

    def add(
        self,
        key: ProbeKey,
        port: int,
        scope: OwnerScope,
        now: float,
        host: str | None = None,
        addresses: Sequence[bytes] | None = None,
    ) -> None:
        """Start to watch a port, for the check `key` of a rank."""
        self._wanted[scope.rank, key] = Awaited(
            port, scope, host, addresses, elsewhere_at=now + ELSEWHERE_EVERY_S
        )
        self._early_until = now + EARLY_S
        self._next_look = min(self._next_look, now + LOOK_EVERY_S)

    def remove(self, rank: RankId, key: ProbeKey) -> None:
        """Stop watching a check's port."""
        self._wanted.pop((rank, key), None)

    def look(self, now: float, mains: Mapping[int, RankId]) -> list[tuple[RankId, ProbeKey, bool, str]]:
        """Return (rank, key, is open, detail) of the changes since the last call, when one is due.

        `mains` are the main processes of all ranks.

        Raises: OSError.
        """
        if not self._wanted or now < self._next_look:
            return []
        self._next_look = now + (LOOK_EVERY_S if now < self._early_until else LOOK_LATER_EVERY_S)
        sockets = self._owners.look()
        changes = []
        for (rank, key), awaited in self._wanted.items():
            before = awaited.is_open, awaited.text, awaited.elsewhere
            self._look_at(awaited, sockets, now, mains)
            if (awaited.is_open, awaited.text, awaited.elsewhere) != before:
                changes.append((rank, key, awaited.is_open, _detail(awaited)))
        return changes

    def look_once(
        self, rank: RankId, key: ProbeKey, now: float, mains: Mapping[int, RankId]
    ) -> tuple[bool, str]:
        """Return whether a watched port is open now, and a detail. Raises: OSError."""
        awaited = self._wanted[rank, key]
        awaited.judged_until = 0.0
        self._look_at(awaited, self._owners.look(), now, mains)
        return awaited.is_open, _detail(awaited)

    def _look_at(
        self,
        awaited: Awaited,
        sockets: Mapping[int, tuple[Listener, ...]],
        now: float,
        mains: Mapping[int, RankId],
    ) -> None:
        at_port = sockets.get(awaited.port, ())
        listeners = reached(at_port, awaited.addresses)
        if not listeners:
            awaited.is_open, awaited.text, awaited.judged = False, "", ()
            if at_port:
                places = ", ".join(sorted(one.place for one in at_port)[:SHOWN_PORTS])
                awaited.text = (
                    f"port {awaited.port} is not listening on {awaited.host}{OTHER_ADDRESS}{places}"
                )
            elif now >= awaited.elsewhere_at:
                awaited.elsewhere_at = now + ELSEWHERE_EVERY_S
                found = self._owners.ports_of(awaited.scope, sockets, mains)
                places = ", ".join(sorted({one.place for one in found})[:SHOWN_PORTS])
                awaited.elsewhere = f"{OTHER_PORT}{places}" if places else ""
            return
        if awaited.is_open or (listeners == awaited.judged and now < awaited.judged_until):
            return
        judgement = self._owners.judge(awaited.scope, listeners, mains)
        awaited.is_open = judgement.counts
        awaited.text = _text(awaited.port, judgement)
        awaited.judged, awaited.judged_until = listeners, now + FOREIGN_EVERY_S


def _text(port: int, judgement: Judgement) -> str:
    if judgement.verdict == "foreign":
        return f"port {port} is taken by {judgement.text}"
    return f"port {port} is listening, but {judgement.text}" if judgement.text else ""


def _detail(awaited: Awaited) -> str:
    if awaited.text:
        return awaited.text
    if awaited.is_open:
        return f"port {awaited.port} is listening"
    closed = f"port {awaited.port} is not listening"
    return f"{closed}; {awaited.elsewhere}" if awaited.elsewhere else closed


def elsewhere_in(detail: str) -> str:
    """Return the part of a closed port's detail that says where its task does listen; empty without one."""
    if OTHER_PORT in detail:
        return detail[detail.index(OTHER_PORT) :]
    _, here, places = detail.partition(OTHER_ADDRESS)
    return f"the port is listening{here}{places}" if here else ""
