"""Reads facts with psutil. Imported once the agent works."""

import socket


def addresses() -> tuple[tuple[str, str], ...]:
    """Return (interface, address) pairs of this node, IPv4 and IPv6, without link-layer addresses."""
    import psutil

    return tuple(
        (interface, entry.address)
        for interface, entries in sorted(psutil.net_if_addrs().items())
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    )
