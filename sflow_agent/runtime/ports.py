"""Seeing a task's TCP port open: one dump of the node's listening sockets serves every waiting probe.

A port counts only when a process of the rank's own tree listens on it: an old server of somebody else must not make a task ready.
"""

import contextlib
import os
import socket
import struct

from protocol.ids import RankId
from sflow_agent.runtime.process_tree import tree_members

LOOK_EVERY_S = 0.005
"""The kernel tells nobody of a bind. A dump costs 0.05 ms, and is only made while a port is waited for."""
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


class PortWatch:
    """The ports that probes wait for, and which of them are open by the right process."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[RankId, str], tuple[int, int]] = {}
        """(rank, probe kind) to (port, main process)."""
        self._open: set[tuple[RankId, str]] = set()

    @property
    def is_waiting(self) -> bool:
        """True while some probe needs `look`."""
        return bool(self._wanted)

    def add(self, rank: RankId, kind: str, port: int, main: int) -> None:
        """Begins to watch for a port of the tree of process `main`."""
        self._wanted[rank, kind] = (port, main)

    def remove(self, rank: RankId) -> None:
        """The rank's probes need nothing any more."""
        for key in [key for key in self._wanted if key[0] == rank]:
            del self._wanted[key]
            self._open.discard(key)

    def look(self) -> list[tuple[RankId, str, bool, str]]:
        """(rank, kind, is open, detail) of what has changed since the last look."""
        sockets = listening_sockets()
        changes = []
        for key, (port, main) in self._wanted.items():
            rank, kind = key
            inodes = sockets.get(port)
            is_open = bool(inodes) and (key in self._open or _owns(rank, main, inodes or set()))
            if is_open != (key in self._open):
                (self._open.add if is_open else self._open.discard)(key)
                changes.append(
                    (rank, kind, is_open, f"port {port} {'is' if is_open else 'is not'} listening")
                )
        return changes


def _owns(rank: RankId, main: int, inodes: set[int]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in tree_members({main: str(rank.attempt)}, os.getpid())[main]:
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) in wanted:  # noqa: PTH115
                        return True
    return False
