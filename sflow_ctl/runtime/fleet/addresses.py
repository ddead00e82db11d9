"""The addresses that other nodes may reach this host by."""

import contextlib
import socket
from collections.abc import Iterable

import psutil

from protocol.errors import LaunchError


def own_addresses(interface: str | None) -> tuple[str, ...]:
    """Addresses that other nodes may reach this one by: of one interface, or of all but the loopback.

    Raises: LaunchError when there are none.
    """
    known = psutil.net_if_addrs()
    if interface is not None and interface not in known:
        raise LaunchError.of(
            "no-such-interface",
            f'this host has no network interface "{interface}"',
            hint=f"one of {', '.join(sorted(known))}",
        )
    found = [
        entry.address
        for name, entries in sorted(known.items())
        for entry in entries
        if (name == interface if interface is not None else name != "lo")
        and entry.family in (socket.AF_INET, socket.AF_INET6)
        and not entry.address.startswith("fe80")  # link-local: means nothing on another node
    ]
    if not found:
        raise LaunchError.of(
            "no-address", "this host has no address that other nodes could reach", hint="choose --interface"
        )
    return tuple(found)


def interfaces() -> list[str]:
    """Return the names of this host's network interfaces without the loopback."""
    return sorted(name for name in psutil.net_if_addrs() if name != "lo")


def address_towards(others: Iterable[str], interface: str | None) -> str:
    """Return the address from which packets to the first of the others leave; one of the interface's if one is given."""
    own = own_addresses(interface)
    for other in others:
        family = socket.AF_INET6 if ":" in other else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as candidate:
            candidate.connect((other, 9))  # sends nothing: it only asks the routing table
            found = str(candidate.getsockname()[0])
            if found in own or interface is None:
                return found
    return own[0]
