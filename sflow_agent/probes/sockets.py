"""Reads the kernel's list of listening TCP sockets of this node; finds those that a connection to an address reaches.

The owner of a socket is found in `socket_owner`. Source: sock_diag(7); proc(5), /proc/net/tcp, for kernels
and containers without tcp_diag.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

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
_ATTRIBUTE = struct.Struct("=HH")
_SKV6ONLY = 11
_LISTEN = "0A"
_MAPPED = bytes(10) + b"\xff\xff"
"""The beginning of IPv6's form of an IPv4 address."""
LOOPBACK_4, LOOPBACK_6 = bytes((127, 0, 0, 1)), bytes(15) + b"\x01"
_HOSTS_OWN_NAME = bytes((127, 0, 1, 1))
"""The address of the host's own name in Debian's /etc/hosts."""


class Listener(NamedTuple):
    """A listening TCP socket."""

    port: int
    address: bytes
    """4 or 16 bytes in network order; all zero is every address."""
    inode: int
    uid: int
    is_v6_only: bool = False

    @property
    def is_wildcard(self) -> bool:
        """Return whether it accepts connections to every address (of its family)."""
        return not any(self.address)

    @property
    def place(self) -> str:
        """Return its address and port, for people."""
        if self.is_wildcard:
            return str(self.port)
        family = socket.AF_INET if len(self.address) == 4 else socket.AF_INET6
        text = socket.inet_ntop(family, self.address)
        return f"{text}:{self.port}" if len(self.address) == 4 else f"[{text}]:{self.port}"


def listening_sockets() -> dict[int, tuple[Listener, ...]]:
    """Return the listening sockets of the node by port. Raises: OSError."""
    try:
        found = [one for family in (socket.AF_INET, socket.AF_INET6) for one in _by_netlink(family)]
    except OSError as by_netlink:
        try:
            found = [one for name in ("tcp", "tcp6") for one in _by_file(name)]
        except OSError:
            raise by_netlink from None
    by_port: dict[int, list[Listener]] = {}
    for one in found:
        by_port.setdefault(one.port, []).append(one)
    return {port: tuple(ones) for port, ones in by_port.items()}


def reached(listeners: Iterable[Listener], addresses: Sequence[bytes] | None) -> tuple[Listener, ...]:
    """Return the listeners that a connection to one of these addresses may reach; None is any address.

    The kernel prefers a socket that is bound to the address to one that is bound to all, and one of the
    address's own family to a dual one.
    """
    if addresses is None:
        return tuple(listeners)
    found: dict[Listener, None] = {}
    for address in addresses:
        ranked = [(rank, one) for one in listeners if (rank := _rank(one, address)) is not None]
        best = min((rank for rank, _ in ranked), default=0)
        found |= {one: None for rank, one in ranked if rank == best}
    return tuple(found)


def _rank(listener: Listener, address: bytes) -> int | None:
    if listener.address == address:
        return 0
    if not listener.is_wildcard:
        return None
    if len(listener.address) == len(address):
        return 1
    return 2 if len(address) == 4 and not listener.is_v6_only else None


def addresses_of(host: str | None) -> tuple[bytes, ...] | None:
    """Return the addresses of this node that `host` names; None if a socket on any address will do."""
    if host is None:
        return None
    if host == "localhost":
        return LOOPBACK_4, LOOPBACK_6
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, UnicodeError):
            packed = _unmapped(socket.inet_pton(family, host.partition("%")[0]))
            return (packed,) if any(packed) else None
    from sflow_agent.node.addresses import addresses  # a host name: it stands for the node's own addresses

    own = [text.partition("%")[0] for _, text in addresses()]
    packed_all = [socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text) for text in own]
    others = tuple(one for one in packed_all if one not in (LOOPBACK_4, LOOPBACK_6))
    return (*others, _HOSTS_OWN_NAME) if others else (LOOPBACK_4, LOOPBACK_6)


def _unmapped(address: bytes) -> bytes:
    return address[12:] if len(address) == 16 and address.startswith(_MAPPED) else address


# ---------------------------------------------------------------------- the kernel's two lists


def _by_netlink(family: int) -> list[Listener]:
    found: list[Listener] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as link:
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _TCP_LISTEN)
        header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
        link.send(header + body)
        while not read_dump(link.recv(65536), found):
            pass
    return found


def read_dump(data: bytes, found: list[Listener]) -> bool:
    """Add the sockets in a part of a dump; return True when the dump is complete.

    Raises: OSError if the kernel refuses the dump: without tcp_diag, an empty list would be wrong.
    """
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, position)
        body = position + _HEADER.size
        if kind == _NLMSG_DONE:
            return True
        if kind == _NLMSG_ERROR:
            (number,) = struct.unpack_from("=i", data, body)
            if number:
                raise OSError(-number, os.strerror(-number))
            return True
        fields = _MESSAGE.unpack_from(data, body)
        size = 4 if fields[0] == socket.AF_INET else 16
        is_v6_only = size == 16 and _is_v6_only(data[body + _MESSAGE.size : position + length])
        address = _unmapped(fields[6][:size])
        found.append(Listener(int.from_bytes(fields[4], "big"), address, fields[-1], fields[-2], is_v6_only))
        position += (length + 3) & ~3
    return False


def _is_v6_only(attributes: bytes) -> bool:
    position = 0
    while position + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, position)
        if kind == _SKV6ONLY and length > _ATTRIBUTE.size:
            return bool(attributes[position + _ATTRIBUTE.size])
        position += max((length + 3) & ~3, _ATTRIBUTE.size)
    return False


def _by_file(name: str) -> list[Listener]:
    """Return the listeners of /proc/net/tcp or tcp6, which does not show which of them are for IPv6 only."""
    path = Path(f"/proc/net/{name}")
    if name == "tcp6" and not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            host, _, port = fields[1].partition(":")
            # Words of 4 bytes in the machine's own order.
            packed = b"".join(
                struct.pack("=I", int(host[start : start + 8], 16)) for start in range(0, len(host), 8)
            )
            found.append(Listener(int(port, 16), _unmapped(packed), int(fields[9]), int(fields[7])))
    return found
