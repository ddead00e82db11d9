"""Leases ports of this node to tasks: finds them, holds them until a task's process is made, and takes them back.

Each port has two sockets. One is bound to it, for IPv4 and IPv6, and keeps other processes off; it is closed
just before the task's process is made. The other is a name that agents agree on (an abstract Unix socket,
which belongs to the same network namespace and ends with its process); it stays, so that no other agent, of
any run or user, gives the port away while the task has not bound it yet.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Mapping

from msgspec import Struct, field

from protocol.machine.marks import ATTEMPT_MARKER
from protocol.machine.procfs import descendants, environment
from protocol.messages.facts import Leased
from protocol.messages.orders import Lease
from protocol.messages.rank_spec import PortBlock
from sflow_agent.core.port_choice import PortChoice, usable_ports
from sflow_agent.probes.socket_owner import owner_text, owners_of
from sflow_agent.probes.sockets import listening_sockets

OWNER_WITHIN_S = 0.25
"""How long the loop may search for the owner of a task's port, whose name the user needs then."""
_SETTINGS = "/proc/sys/net/ipv4"
_IN_USE = (errno.EADDRINUSE, errno.EACCES)


class _Record(Struct):
    """The ports of one task on this node."""

    number: int
    ports: dict[str, tuple[int, ...]]
    claims: dict[int, socket.socket] = field(default_factory=dict)
    """Claims of all of its ports."""
    holds: dict[int, socket.socket] = field(default_factory=dict)
    """Bound sockets of the ports that its processes do not have now."""
    given_to: str = ""
    """The attempt that has its ports."""


class PortLeases:
    """The leases of one agent. `seed` is the run and node."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._records: dict[str, _Record] = {}
        self._choice: PortChoice | None = None
        self._uses_names = True
        """False once the names of all free ports were taken: their owner must not prevent tasks from running."""
        self.warning = ""
        """A warning about the ports of this node, once a port was leased."""

    def take(self, order: Lease) -> Leased:
        """Lease ports. Ports that the task has and that are still free stay the same."""
        old = self._records.get(order.task)
        if old is not None and order.number <= old.number:
            return Leased(task=order.task, number=old.number, ports=old.ports)
        self.drop(order.task)
        record = _Record(order.number, {})
        try:
            for block in order.blocks:
                record.ports[block.name] = self._lease(record, block, {} if old is None else old.ports)
        except OSError as error:
            _close(record)
            return Leased(task=order.task, number=order.number, problem=_explain(error))
        self._records[order.task] = record
        return Leased(task=order.task, number=order.number, ports=record.ports)

    def hand_over(self, task: str, attempt: str) -> str:
        """Release the bound sockets for a process of this attempt.

        Returns the owner of a port that could not be kept since the last process.
        """
        record = self._records.get(task)
        if record is None or record.given_to == attempt:
            return ""
        self.take_back(task)
        for name, ports in record.ports.items():
            for port in ports:
                if port not in record.holds:
                    return _taken(name, port)
        _release(record)
        record.given_to = attempt
        return ""

    def take_back(self, task: str) -> None:
        """Hold the ports again, as far as they are free: no process of the task runs here any more."""
        record = self._records.get(task)
        if record is None:
            return
        record.given_to = ""
        for port in (port for ports in record.ports.values() for port in ports):
            if port not in record.holds:
                hold = _hold(port) or _hold(port, beside_what_ends=True)
                if hold is not None:
                    record.holds[port] = hold

    def port_conflict(self, task: str, attempt: str) -> str:
        """Return which port a foreign process listens on, and its name; empty if none does.

        Processes of `attempt` are not foreign.
        """
        record = self._records.get(task)
        if record is None:
            return ""
        sockets = listening_sockets()
        for name, ports in record.ports.items():
            for port in ports:
                inodes = {one.inode for one in sockets.get(port, ())}
                if inodes and not _is_of(attempt, inodes):
                    return _taken(name, port)
        return ""

    def drop(self, task: str) -> None:
        """Release the task's ports."""
        record = self._records.pop(task, None)
        if record is not None:
            _close(record)

    def _lease(
        self, record: _Record, block: PortBlock, before: Mapping[str, tuple[int, ...]]
    ) -> tuple[int, ...]:
        def take(port: int) -> bool:
            return _take(record, port, self._uses_names)

        def give_back(port: int) -> None:
            if port in record.claims:
                record.claims.pop(port).close()
            record.holds.pop(port).close()

        earlier = before.get(block.name, ())
        if len(earlier) == block.count:
            kept = [port for port in earlier if take(port)]
            if len(kept) == block.count:
                return earlier
            for port in kept:
                give_back(port)
        found = self._chosen().find(block.count, block.contiguous, take, give_back)
        if found is None and self._uses_names:
            self._uses_names = False
            found = self._chosen().find(block.count, block.contiguous, take, give_back)
            self._uses_names = found is None  # then it was not the names
            if found is not None:
                self.warning = (
                    "another process has the names of all free ports, with which agents tell each other what they have "
                    "leased: another run may lease the same port before its task binds it"
                )
        if found is None:
            in_a_row = " in a row" if block.contiguous else ""
            what = "no free port" if block.count == 1 else f"fewer than {block.count} free ports{in_a_row}"
            raise OSError(errno.EADDRINUSE, f"{what} for {block.name}")
        return found

    def _chosen(self) -> PortChoice:
        if self._choice is None:
            ephemeral = _setting("ip_local_port_range") or "32768 60999"
            ports, is_outside = usable_ports(ephemeral, _setting("ip_local_reserved_ports"))
            if not is_outside:
                self.warning = (
                    f"its ephemeral ports ({' to '.join(ephemeral.split())}) leave none for servers: outgoing "
                    "connections may take a leased port before its task binds it"
                )
            self._choice = PortChoice(ports, self._seed)
        return self._choice


def _take(record: _Record, port: int, needs_name: bool) -> bool:
    claim = _claim(port)
    if claim is None and needs_name:
        return False
    hold = None
    try:
        hold = _hold(port)
    finally:
        if hold is None and claim is not None:
            claim.close()
    if hold is None:
        return False
    record.holds[port] = hold
    if claim is not None:
        record.claims[port] = claim
    return True


def _claim(port: int) -> socket.socket | None:
    """Return the name that marks the port as taken for other agents, or None when it is taken already."""
    return _bound(socket.AF_UNIX, f"\0sflow-port-{port}")


def _hold(port: int, beside_what_ends: bool = False) -> socket.socket | None:
    """Return a socket that has the port for every address of both kinds, or None when it is in use.

    Closed connections keep a port for a minute, except from sockets that accept this (`beside_what_ends`): a
    restarted server does. Others that accept it are not kept out then.
    """
    options = ((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),) if beside_what_ends else ()
    try:
        both = ((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0), *options)
        return _bound(socket.AF_INET6, ("::", port), both)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return _bound(socket.AF_INET, ("0.0.0.0", port), options)


def _bound(
    family: int, address: str | tuple[str, int], options: tuple[tuple[int, int, int], ...] = ()
) -> socket.socket | None:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            made.setsockopt(*option)
        made.bind(address)
    except OSError as error:
        made.close()
        if error.errno in _IN_USE:
            return None
        raise
    return made


def _release(record: _Record) -> None:
    for hold in record.holds.values():
        hold.close()
    record.holds.clear()


def _close(record: _Record) -> None:
    _release(record)
    for claim in record.claims.values():
        claim.close()


def _taken(name: str, port: int) -> str:
    inodes = {one.inode for one in listening_sockets().get(port, ())}
    by = owner_text(inodes, OWNER_WITHIN_S) if inodes else "another process, which does not listen on it"
    return f"port {port} ({name}) is used by {by}"


def _is_of(attempt: str, inodes: set[int]) -> bool:
    """Return whether processes of this attempt have one of these sockets."""
    marker = f"{ATTEMPT_MARKER}={attempt}".encode()
    return any(marker in environment(pid) for pid in owners_of(inodes, descendants(os.getpid())))


def _setting(name: str) -> str:
    with contextlib.suppress(OSError), open(f"{_SETTINGS}/{name}", encoding="ascii") as file:  # noqa: PTH123
        return file.read().strip()
    return ""


def _explain(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "the agent has no descriptors left for more ports: raise `ulimit -n`"
    return error.strerror or str(error)
