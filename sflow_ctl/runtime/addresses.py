"""The addresses that other nodes may reach this host by."""

import socket

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
