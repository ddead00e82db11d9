"""Chooses ports of a node for tasks, and the order in which they are tried; which tasks have ports. Pure."""

from collections.abc import Callable, Sequence
from zlib import crc32

from protocol.messages.orders import Lease, Release
from sflow_agent.core.commands import AgentCommand, DropPorts, TakePorts

FIRST, LAST = 10_000, 65_535
"""Below are the well-known ports, and those that most programs have by default."""
FEWEST = 1_000
"""With fewer than these outside the ephemeral range, that range is used as well: some sites widen it to nearly all ports."""


def usable_ports(ephemeral_range: str, reserved: str) -> tuple[list[int], bool]:
    """Return the ports to choose from, ascending, and whether the system leaves them alone.

    Ports for outgoing connections (`ephemeral_range`) are left out, unless too few remain; ports that the
    administrator reserves are never used. Source: Linux, ip-sysctl, `ip_local_port_range` ("32768 60999"),
    `ip_local_reserved_ports` ("8080,9148-9160").
    """
    kept = _reserved(reserved)
    low, high = map(int, ephemeral_range.split())
    free = [port for port in range(FIRST, LAST + 1) if port not in kept]
    outside = [port for port in free if not low <= port <= high]
    return (outside, True) if len(outside) >= FEWEST else (free, False)


def _reserved(text: str) -> set[int]:
    ports: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            ports.update(range(int(first), int(last or first) + 1))
    return ports


class PortChoice:
    """Goes round the ports of a node, from a position that depends on `seed`, so that concurrent runs start elsewhere."""

    def __init__(self, ports: Sequence[int], seed: str) -> None:
        self._ports = ports
        self._next = crc32(seed.encode()) % len(ports) if ports else 0

    def find(
        self,
        count: int,
        contiguous: bool,
        take: Callable[[int], bool],
        give_back: Callable[[int], None],
    ) -> tuple[int, ...] | None:
        """Return the first `count` ports that `take` can have, or None after a whole round.

        Ports taken in vain are given back.
        """
        found: list[int] = []
        for _ in range(len(self._ports) + count - 1):
            port = self._ports[self._next]
            self._next = (self._next + 1) % len(self._ports)
            if port in found:
                break
            is_gap = contiguous and bool(found) and port != found[-1] + 1
            is_taken = not is_gap and take(port)
            if contiguous and not is_taken:
                while found:
                    give_back(found.pop())
                is_taken = is_gap and take(port)
            if is_taken:
                found.append(port)
                if len(found) == count:
                    return tuple(found)
        for port in found:
            give_back(port)
        return None


class LeasingTasks:
    """The tasks that have ports on this node."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def __contains__(self, task: str) -> bool:
        """Return whether the task has ports here."""
        return task in self._names

    def order(self, order: Lease | Release) -> AgentCommand:
        """Return what an order about ports asks for."""
        if isinstance(order, Lease):
            self._names.add(order.task)
            return TakePorts(order)
        self._names.discard(order.task)
        return DropPorts(order.task)
