"""Whose process listens on a TCP port of this node: the kernel's list of sockets, and who holds one of them."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from protocol.ids import RankId
from sflow_agent.runtime.process_tree import (
    ATTEMPT_MARKER,
    RUN_MARKER,
    environment,
    name_of,
    parent_of,
    tree_members,
)

OWNER_WITHIN_S = 0.05
"""How long the loop may look for the owner of a socket; the newest processes come first, as a server is one of them."""
MAX_ANCESTORS = 50
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
class Whose:
    """What a probe is allowed to take an answer from. `owner` is as in `Condition`, `marker` the run's."""

    rank: RankId
    owner: str
    marker: str
    is_in_container: bool = False
    """An engine's daemon may have started its processes: they are below nobody, or another user's."""

    def stranger(self, inodes: set[int], mains: Mapping[int, RankId]) -> str | None:
        """None when the right one listens, else who does, for a person. `mains` are the main processes of all ranks."""
        if self.owner == "any" or self._is_in_tree(inodes, mains):
            return None
        holder = holder_of(inodes)
        if holder is None:
            return None if self.is_in_container else _sentence("another process", self.owner, "any")
        attempt = _attempt_of(holder, self.marker)
        if attempt is None:
            return _sentence(f"process {name_of(holder)}", self.owner, "any")
        is_own = attempt == str(self.rank.attempt) or (self.is_in_container and not attempt)
        if is_own or self.owner == "run":
            return None
        return _sentence(f"{attempt or 'a container'}, process {name_of(holder)}", "task", "run")

    def _is_in_tree(self, inodes: set[int], mains: Mapping[int, RankId]) -> bool:
        """The usual case, at the cost of the attempt's own processes on this node."""
        own = {pid: str(rank) for pid, rank in mains.items() if rank.attempt == self.rank.attempt}
        trees = tree_members(own, os.getpid(), mains.keys() - own.keys())
        return any(owners_of(inodes, members) for members in trees.values())


def _sentence(who: str, of: str, enough: str) -> str:
    return f"{who}, which is not of this {of} (`owner: {enough}` would let it count)"


def _attempt_of(pid: int, marker: str) -> str | None:
    """Which attempt of the run a process belongs to that is not below this agent: "" where it does not say.

    A job step's processes and a daemon's containers are such ones; their environment, or an ancestor's, has the markers.
    """
    wanted = f"{RUN_MARKER}={marker}".encode()
    prefix = f"{ATTEMPT_MARKER}=".encode()
    for _ in range(MAX_ANCESTORS):
        if pid <= 1:
            break
        variables = environment(pid)
        if wanted in variables:
            found = (one[len(prefix) :] for one in variables if one.startswith(prefix))
            return next(found, b"").decode(errors="replace")
        pid = parent_of(pid)
    return None


def owners_of(inodes: set[int], pids: Iterable[int]) -> list[int]:
    """Those of these processes that have one of these sockets."""
    return [pid for pid in pids if _holds(pid, inodes)]


def holder_of(inodes: Collection[int], within_s: float = OWNER_WITHIN_S) -> int | None:
    """A process that has one of these sockets, as far as that is to be seen within this time."""
    until = time.monotonic() + within_s
    newest_first = sorted((int(name) for name in os.listdir("/proc") if name.isdecimal()), reverse=True)  # noqa: PTH208
    for pid in newest_first:
        if time.monotonic() > until:
            break
        if _holds(pid, inodes):
            return pid
    return None


def owner_of(inodes: set[int], within_s: float = OWNER_WITHIN_S) -> str:
    """Who has one of these sockets, for a person."""
    holder = holder_of(inodes, within_s)
    who = "another process" if holder is None else f"process {name_of(holder)}"
    return f"{who}, which is not of this task"


def _holds(pid: int, inodes: Collection[int]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) in wanted:  # noqa: PTH115
                    return True
    return False
