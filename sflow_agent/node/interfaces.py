"""Finds the network interface of an address, for software that accepts interfaces by name.

Asks the kernel directly: the agent's start cannot wait for psutil.
"""

import array
import fcntl
import os
import socket
import struct
from collections.abc import Mapping

_SIOCGIFCONF, _SIOCGIFFLAGS = 0x8912, 0x8913
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_RECORD = struct.calcsize("16s24s")
"""The size of `struct ifreq` on 64-bit machines. Source: netdevice(7)."""
_MOST = 512
_FOR_PROGRAMS = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
"""Both accept names with commas between.

UCX chooses among devices, of which an interface is the slow one: it is not set.
"""


class Interfaces:
    """The interfaces of this node.

    `is_chosen`: the user has named the network, so programs that would guess get its name.
    """

    def __init__(self, *, is_chosen: bool) -> None:
        self._is_chosen = is_chosen
        self._known: dict[str, dict[str, str]] = {}

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return additional variables for a process whose variables contain the address of the node."""
        address = variables.get("SFLOW_NODE_IP")
        if address is None:
            return {}
        if address not in self._known:  # once: a node's addresses do not change while it works
            self._known[address] = _described(address, addresses())
        found = self._known[address]
        if not self._is_chosen or not found:
            return found
        name = found["SFLOW_NODE_IFNAME"]
        return {**found, **{program: name for program in _FOR_PROGRAMS if program not in variables}}


def _described(address: str, known: list[tuple[str, str]]) -> dict[str, str]:
    """Return the interface that has the address, then the others that other nodes could reach."""
    own = next((name for name, one in known if one == address), None)
    if own is None:
        return {}
    names = [own]
    if own != "lo":
        names += [name for name, _ in known if name != own and is_hardware(name) and is_up(name)]
    return {"SFLOW_NODE_IFNAME": own, "SFLOW_NODE_IFNAMES": ",".join(dict.fromkeys(names))}


def addresses() -> list[tuple[str, str]]:
    """Return (interface, address) of this node, first IPv4, then IPv6."""
    return [*_addresses_4(), *_addresses_6()]


def _addresses_4() -> list[tuple[str, str]]:
    buffer = array.array("B", bytes(_MOST * _RECORD))
    where, size = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        answer = fcntl.ioctl(asker.fileno(), _SIOCGIFCONF, struct.pack("iL", size, where))
    used: int = struct.unpack("iL", answer)[0]
    records = buffer.tobytes()[:used]
    return [
        (_name(records[at : at + 16]), socket.inet_ntop(socket.AF_INET, records[at + 20 : at + 24]))
        for at in range(0, used, _RECORD)
    ]


def _name(field: bytes) -> str:
    """Return the name without the label of a second address: `eth0:1` is one of eth0."""
    return field.partition(b"\0")[0].decode().partition(":")[0]


def _addresses_6() -> list[tuple[str, str]]:
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as file:  # noqa: PTH123
            rows = [line.split() for line in file]
    except OSError:
        return []  # no IPv6 here
    return [(row[5], socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[0]))) for row in rows]


def is_hardware(name: str) -> bool:
    """Return whether an interface has a device, or is a bond or VLAN on one: bridges and pairs of containers have none."""
    base = f"/sys/class/net/{name}"
    return any(os.path.exists(f"{base}/{part}") for part in ("device", "bonding")) or any(  # noqa: PTH110
        entry.startswith("lower_") and is_hardware(entry.removeprefix("lower_"))
        for entry in _entries(base)
        if not os.path.exists(f"{base}/bridge")  # noqa: PTH110
    )


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208
    except OSError:
        return []


def is_up(name: str) -> bool:
    """Return whether an interface is switched on and has a carrier."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            answer = fcntl.ioctl(asker.fileno(), _SIOCGIFFLAGS, struct.pack("16s24x", name.encode()))
        except OSError:
            return False
    flags: int = struct.unpack("16xH", answer[:18])[0]
    return flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING
