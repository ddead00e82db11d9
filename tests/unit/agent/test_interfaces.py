"""The interfaces that tasks get: the one that has their node's address, and those that others can use."""

import pytest

from sflow_agent.node import interfaces
from sflow_agent.node.interfaces import Interfaces

KNOWN = [
    ("lo", "127.0.0.1"), ("eth0", "10.0.0.4"), ("docker0", "172.17.0.1"), ("ib0", "10.1.0.4"), ("ib1", "10.2.0.4"),
    ("lo", "::1"), ("eth0", "fd00::4"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with two networks, a bridge of containers, and a cable that is not plugged in."""
    monkeypatch.setattr(interfaces, "addresses", lambda: KNOWN)
    monkeypatch.setattr(interfaces, "is_hardware", lambda name: name in ("eth0", "ib0", "ib1"))
    monkeypatch.setattr(interfaces, "is_up", lambda name: name != "ib1")


def test_the_one_with_the_nodes_address_comes_first() -> None:
    told = Interfaces(is_chosen=False).environment({"SFLOW_NODE_IP": "10.1.0.4"})
    assert told == {"SFLOW_NODE_IFNAME": "ib0", "SFLOW_NODE_IFNAMES": "ib0,eth0"}
    told = Interfaces(is_chosen=False).environment({"SFLOW_NODE_IP": "fd00::4"})
    assert told == {"SFLOW_NODE_IFNAME": "eth0", "SFLOW_NODE_IFNAMES": "eth0,ib0"}


def test_the_loopback_stays_alone() -> None:
    told = Interfaces(is_chosen=False).environment({"SFLOW_NODE_IP": "127.0.0.1"})
    assert told == {"SFLOW_NODE_IFNAME": "lo", "SFLOW_NODE_IFNAMES": "lo"}


def test_programs_get_the_chosen_interface_unless_the_task_sets_it() -> None:
    told = Interfaces(is_chosen=True).environment({"SFLOW_NODE_IP": "10.1.0.4", "NCCL_SOCKET_IFNAME": "eth0"})
    assert "NCCL_SOCKET_IFNAME" not in told
    assert told["GLOO_SOCKET_IFNAME"] == "ib0"


def test_a_foreign_or_missing_address_gives_no_interface() -> None:
    assert Interfaces(is_chosen=True).environment({"SFLOW_NODE_IP": "10.9.9.9"}) == {}
    assert Interfaces(is_chosen=True).environment({}) == {}
