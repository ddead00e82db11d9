"""The kernel's own answers, beside those of psutil."""

import socket

import psutil

from sflow_agent.node.interfaces import addresses, is_hardware, is_up


def test_addresses_are_those_that_psutil_finds() -> None:
    expected = {
        (name, entry.address.partition("%")[0])
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    }
    assert set(addresses()) == expected


def test_the_loopback_is_up_and_no_hardware() -> None:
    assert is_up("lo")
    assert not is_hardware("lo")
    assert not is_up("no-such0")
    assert not is_hardware("no-such0")
