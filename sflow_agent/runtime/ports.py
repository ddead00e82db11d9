"""Seeing a task's TCP port open: one dump of the node's listening sockets serves every waiting probe.

A port counts only when a process of the rank's own tree listens on it: an old server of somebody else must
not make a task ready.
"""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from protocol.ids import RankId
from sflow_agent.runtime.process_tree import RANK_MARKER, RUN_MARKER, environment, name_of, tree_members

LOOK_EVERY_S, LOOK_LATER_EVERY_S, EARLY_S = 0.005, 0.015, 2.0
"""The kernel tells nobody of a bind. A dump costs 0.05 ms, and is made only while some port is awaited: often
at first, where most servers come up, and then still often enough for 20 ms."""
STRANGER_EVERY_S = 0.25
"""How often a port is looked at again that somebody else listens on: finding the owner reads a whole tree."""
OWNER_WITHIN_S = 0.02
"""How long the loop may look for the name of a stranger."""
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TCP_LISTEN = 1 << 10
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
"""inet_diag_req_v2: family, protocol, extensions, states, and an empty socket id. Source: sock_diag(7)."""
_MESSAGE = struct.Struct("=BBBB2s2s16s16sI8sIIIII")
"""inet_diag_msg: family, state, timer, retransmissions, source and target port, addresses, interface, cookie,
expires, receive queue, send queue, user, inode."""


def listening_sockets() -> dict[int, set[int]]:
    """Port to the inodes of the sockets that listen on it, IPv4 and IPv6."""
    found: dict[int, set[int]] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
        ) as link:
            body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _TCP_LISTEN)
            link.send(
                _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0) + body
            )
            while not _read_dump(link.recv(65536), found):
                pass
    return found


def _read_dump(data: bytes, found: dict[int, set[int]]) -> bool:
    """Adds the sockets in `data`; True when the dump is complete."""
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, position)
        if kind in (_NLMSG_DONE, _NLMSG_ERROR):
            return True
        fields = _MESSAGE.unpack_from(data, position + _HEADER.size)
        found.setdefault(int.from_bytes(fields[4], "big"), set()).add(fields[-1])
        position += (length + 3) & ~3
    return False


@dataclass(slots=True)
class Awaited:
    """A port some probe looks at."""

    port: int
    main: int | None
    """The rank's main process; None when anybody may listen."""
    is_open: bool = False
    strangers: Collection[int] = frozenset()
    """Sockets that listen on it and were not found in the rank's tree."""
    strangers_until: float = 0.0
    is_stranger_told: bool = False


class PortWatch:
    """The ports that probes wait for, and which of them are open by the right process."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[RankId, str], Awaited] = {}
        self._early_until = 0.0
        self._next_look = 0.0

    def next_wakeup(self) -> float | None:
        """When `look` is due, or None."""
        return self._next_look if self._wanted else None

    def add(self, rank: RankId, kind: str, port: int, main: int | None, now: float) -> None:
        """Begins to watch for a port of the tree of process `main`, or of anybody."""
        self._wanted[rank, kind] = Awaited(port, main)
        self._early_until = now + EARLY_S
        self._next_look = min(self._next_look, now + LOOK_EVERY_S)

    def remove(self, rank: RankId, kind: str) -> None:
        """This probe needs nothing any more."""
        self._wanted.pop((rank, kind), None)

    def look(self, now: float, others: Collection[int]) -> list[tuple[RankId, str, bool, str]]:
        """(rank, kind, is open, detail) of what has changed since the last look, when one is due.

        `others` are the main processes of all ranks.
        """
        if not self._wanted or now < self._next_look:
            return []
        self._next_look = now + (LOOK_EVERY_S if now < self._early_until else LOOK_LATER_EVERY_S)
        sockets = listening_sockets()
        changes = []
        for (rank, kind), awaited in self._wanted.items():
            inodes = sockets.get(awaited.port, set())
            is_open = _is_open(rank, awaited, inodes, now, others)
            if not is_open and inodes and not awaited.is_stranger_told:
                awaited.is_stranger_told = True
                changes.append((rank, kind, False, f"port {awaited.port} is taken by {owner_of(inodes)}"))
            elif is_open != awaited.is_open or (not inodes and awaited.is_stranger_told):
                awaited.is_stranger_told = False
                awaited.is_open = is_open
                detail = f"port {awaited.port} {'is' if is_open else 'is not'} listening"
                changes.append((rank, kind, is_open, detail))
        return changes


def _is_open(rank: RankId, awaited: Awaited, inodes: set[int], now: float, others: Collection[int]) -> bool:
    if not inodes or awaited.is_open or awaited.main is None:
        return bool(inodes)
    if inodes == awaited.strangers and now < awaited.strangers_until:
        return False
    if _owns(rank, awaited.main, inodes, others):
        return True
    awaited.strangers, awaited.strangers_until = inodes, now + STRANGER_EVERY_S
    return False


def _owns(rank: RankId, main: int, inodes: set[int], others: Collection[int]) -> bool:
    members = tree_members({main: str(rank)}, os.getpid(), set(others) - {main})[main]
    return bool(owners_of(inodes, members) or owners_of(inodes, _marked_like(main)))


def _marked_like(main: int) -> Iterator[int]:
    """Processes that carry the markers of a rank's main process, below this agent or not: what a job step (srun) of the
    rank starts on this node is a child of Slurm's.
    """
    prefixes = (f"{RUN_MARKER}=".encode(), f"{RANK_MARKER}=".encode())
    wanted = {variable for variable in environment(main) if variable.startswith(prefixes)}
    if len(wanted) < len(prefixes):
        return
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal() and wanted <= set(environment(int(name))):
            yield int(name)


def owners_of(inodes: set[int], pids: Iterable[int]) -> list[int]:
    """Those of these processes that have one of these sockets."""
    return [pid for pid in pids if _holds(pid, inodes)]


def owner_of(inodes: set[int], within_s: float = OWNER_WITHIN_S) -> str:
    """Who has one of these sockets, as far as that is to be seen: for a person, once."""
    until = time.monotonic() + within_s
    for name in os.listdir("/proc"):  # noqa: PTH208
        if time.monotonic() > until:
            break
        if name.isdecimal() and _holds(int(name), inodes):
            return f"process {name_of(int(name))}, which is not of this task"
    return "another process, which is not of this task"


def _holds(pid: int, inodes: set[int]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) in wanted:  # noqa: PTH115
                    return True
    return False
