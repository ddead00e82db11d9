"""OwnerScope process listens on a TCP port of this node: the kernel's list of sockets, and who holds one of them."""

import math
import socket
import struct
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from protocol.ids import RankId
from protocol.messages.checks import Owner
from sflow_agent.processes.procfs import (
    ATTEMPT_MARKER,
    RUN_MARKER,
    all_processes,
    descendants,
    environment,
    has_socket,
    name_of,
    parent_of,
    session_of,
)

OWNER_WITHIN_S = 0.05
"""How long the loop may look for the owner of a socket; the newest processes come first, as a server is one of them."""
MAX_ANCESTORS = 50
ASK_AGAIN_S = 0.5
"""Where nobody was seen to have a socket."""
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


@dataclass(frozen=True, slots=True)
class OwnerScope:
    """What a probe is allowed to take an answer from. `owner` is the check's."""

    rank: RankId
    owner: Owner
    is_in_container: bool = False
    """An engine's daemon may have started its processes: they are below nobody, or another user's."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """OwnerScope a listening socket is."""

    pid: int | None
    """A process that has it; None while none was seen, as one of another user."""
    attempt: str | None
    """Of this run, "" where its process does not say which; None is not of this run."""
    ask_again_at: float


class SocketOwners:
    """The listening sockets of the node. OwnerScope one is, is found out once, however many probes ask. `marker` is the run's."""

    def __init__(self, marker: str) -> None:
        self._marker = f"{RUN_MARKER}={marker}".encode()
        self._owners: dict[int, _Owner] = {}

    def look(self) -> dict[int, set[int]]:
        """Port to sockets, by their inodes. Raises: OSError."""
        sockets = listening_sockets()
        if self._owners:
            present = {inode for inodes in sockets.values() for inode in inodes}
            self._owners = {inode: one for inode, one in self._owners.items() if inode in present}
        return sockets

    def stranger(self, whose: OwnerScope, inodes: Iterable[int], mains: Mapping[int, RankId]) -> str | None:
        """None when the right one listens, else who does, for a person. `mains` are the main processes of all ranks."""
        strangers = []
        for inode in inodes:
            stranger = None if whose.owner == "any" else _stranger(whose, self._owner(inode, whose, mains))
            if stranger is None:
                return None
            strangers.append(stranger)
        return strangers[0]

    def _owner(self, inode: int, whose: OwnerScope, mains: Mapping[int, RankId]) -> _Owner:
        known = self._owners.get(inode)
        now = time.monotonic()
        if known is None or known.ask_again_at <= now:
            # First where it most likely is: everything else costs a look at all processes of the node.
            own = (main for main, rank in mains.items() if rank.attempt == whose.rank.attempt)
            near = (pid for main in own for pid in (main, *descendants(main)))
            pid = next((pid for pid in near if has_socket(pid, {inode})), None) or holder_of({inode})
            attempt = self._attempt_of(pid, mains) if pid is not None else None
            known = _Owner(pid, attempt, math.inf if pid is not None else now + ASK_AGAIN_S)
            self._owners[inode] = known
        return known

    def _attempt_of(self, pid: int, mains: Mapping[int, RankId]) -> str | None:
        """By parentage, session or markers, its own or an ancestor's. Not all are below this agent: a job step's
        processes and a daemon's containers have only the markers.
        """
        prefix = f"{ATTEMPT_MARKER}=".encode()
        for _ in range(MAX_ANCESTORS):
            if pid <= 1:
                break
            rank = mains.get(pid) or mains.get(session_of(pid))
            if rank is not None:
                return str(rank.attempt)
            variables = environment(pid)
            if self._marker in variables:
                found = (one[len(prefix) :] for one in variables if one.startswith(prefix))
                return next(found, b"").decode(errors="replace")
            pid = parent_of(pid)
        return None


def _stranger(whose: OwnerScope, owner: _Owner) -> str | None:
    if owner.pid is None:
        return None if whose.is_in_container else _sentence("another process", whose.owner, "any")
    if owner.attempt is None:
        return _sentence(f"process {name_of(owner.pid)}", whose.owner, "any")
    is_own = owner.attempt == str(whose.rank.attempt) or (whose.is_in_container and not owner.attempt)
    if is_own or whose.owner == "run":
        return None
    return _sentence(f"{owner.attempt or 'a container'}, process {name_of(owner.pid)}", "task", "run")


def _sentence(who: str, of: str, enough: str) -> str:
    return f"{who}, which is not of this {of} (`owner: {enough}` would let it count)"


def owners_of(inodes: set[int], pids: Iterable[int]) -> list[int]:
    """Those of these processes that have one of these sockets."""
    return [pid for pid in pids if has_socket(pid, inodes)]


def holder_of(inodes: Collection[int], within_s: float = OWNER_WITHIN_S) -> int | None:
    """A process that has one of these sockets, as far as that is to be seen within this time."""
    until = time.monotonic() + within_s
    for pid in sorted(all_processes(), reverse=True):  # the newest first
        if time.monotonic() > until:
            break
        if has_socket(pid, inodes):
            return pid
    return None


def owner_of(inodes: set[int], within_s: float = OWNER_WITHIN_S) -> str:
    """Who has one of these sockets, for a person."""
    holder = holder_of(inodes, within_s)
    who = "another process" if holder is None else f"process {name_of(holder)}"
    return f"{who}, which is not of this task"
