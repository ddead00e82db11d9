"""Leases with real sockets: who can bind a port when, and how a port in use is handled."""

import socket
from collections.abc import Iterator

import pytest

from protocol.messages.orders import Lease
from protocol.messages.rank_spec import PortBlock
from sflow_agent.core.port_choice import PortChoice
from sflow_agent.port_leases import PortLeases

HTTP = PortBlock(name="http")


@pytest.fixture
def leases() -> Iterator[PortLeases]:
    """An agent's leases; all are given up at the end."""
    yield from agent_leases()


@pytest.fixture
def others() -> Iterator[PortLeases]:
    """Those of another agent, which begins to look at the same place."""
    yield from agent_leases()


def agent_leases() -> Iterator[PortLeases]:
    made = PortLeases("test 0")
    yield made
    for task in ("a", "b"):
        made.drop(task)


def lease(leases: PortLeases, task: str, *blocks: PortBlock, number: int = 1) -> dict[str, tuple[int, ...]]:
    """Return the ports of the task."""
    leased = leases.take(Lease(task=task, number=number, blocks=blocks))
    assert not leased.problem
    assert leased.number == number
    return leased.ports


def listener(port: int, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    """A server as most are. Raises: OSError."""
    made = socket.socket(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


def test_a_port_is_held_for_both_kinds_of_addresses_until_it_is_handed_over(leases: PortLeases) -> None:
    (port,) = lease(leases, "a", HTTP)["http"]
    for family in (socket.AF_INET, socket.AF_INET6):
        with pytest.raises(OSError, match="in use"):
            listener(port, family)
    assert leases.hand_over("a", "a#1") == ""
    listener(port).close()
    listener(port, socket.AF_INET6).close()


def test_an_order_that_comes_twice_is_one_lease(leases: PortLeases) -> None:
    ports = lease(leases, "a", HTTP, PortBlock(name="base", count=16, contiguous=True))
    first = ports["base"][0]
    assert ports["base"] == tuple(range(first, first + 16))
    assert ports["http"][0] not in ports["base"]
    assert lease(leases, "a", HTTP) == ports


def test_f22_another_agent_never_gets_a_port_that_is_not_bound_yet(
    leases: PortLeases, others: PortLeases
) -> None:
    """Between the start of a process and its bind, nothing holds the port but the agents' agreement."""
    (port,) = lease(leases, "a", HTTP)["http"]
    leases.hand_over("a", "a#1")
    (second,) = lease(others, "b", HTTP)["http"]
    assert second != port
    listener(port).close()  # only the two agents know that it is not free


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_f20_a_port_with_a_listener_of_either_kind_is_left_alone(
    leases: PortLeases, others: PortLeases, family: socket.AddressFamily
) -> None:
    (port,) = lease(leases, "a", HTTP)["http"]
    leases.drop("a")
    with listener(port, family):
        assert lease(others, "b", HTTP)["http"] != (port,)


def test_ports_taken_back_are_the_same_for_the_next_attempt(leases: PortLeases) -> None:
    (port,) = lease(leases, "a", HTTP)["http"]
    leases.hand_over("a", "a#1")
    server = listener(port)
    client = socket.create_connection(("127.0.0.1", port))
    accepted, _ = server.accept()
    accepted.close()  # so that the connection lingers on the server's side
    client.close()
    server.close()
    with socket.socket() as strict, pytest.raises(OSError, match="in use"):
        strict.bind(("127.0.0.1", port))  # there is something that lingers
    leases.take_back("a")
    assert leases.hand_over("a", "a#2") == ""
    listener(port).close()


def test_no_other_process_gets_a_port_between_two_attempts(leases: PortLeases) -> None:
    (port,) = lease(leases, "a", HTTP)["http"]
    leases.hand_over("a", "a#1")
    leases.take_back("a")
    with pytest.raises(OSError, match="in use"):
        listener(port)


def test_several_processes_of_an_attempt_start_on_the_same_ports(leases: PortLeases) -> None:
    (port,) = lease(leases, "a", HTTP)["http"]
    assert leases.hand_over("a", "a#1") == ""
    with listener(port):
        assert leases.hand_over("a", "a#1") == ""


def test_f21_a_stolen_port_is_named_and_replaced(leases: PortLeases) -> None:
    ports = lease(leases, "a", HTTP, PortBlock(name="nixl", count=3))
    (port,) = ports["http"]
    leases.hand_over("a", "a#1")
    with listener(port):
        assert f"port {port} (http) is used by process" in leases.port_conflict("a", "a#1")
        leases.take_back("a")
        assert f"port {port} (http) is used" in leases.hand_over("a", "a#2")
        renewed = lease(leases, "a", HTTP, PortBlock(name="nixl", count=3), number=2)
        assert renewed["http"] != ports["http"]
        assert renewed["nixl"] == ports["nixl"]
        assert leases.hand_over("a", "a#3") == ""
    assert leases.port_conflict("a", "a#3") == ""


def test_ports_that_a_node_does_not_have_are_a_problem_and_hold_nothing(leases: PortLeases) -> None:
    leased = leases.take(
        Lease(task="a", number=1, blocks=(HTTP, PortBlock(name="x", count=60_000, contiguous=True)))
    )
    assert leased.problem
    assert not leased.ports
    assert leases.hand_over("a", "a#1") == ""


def test_s9_a_process_that_takes_all_names_does_not_keep_tasks_from_ports(leases: PortLeases) -> None:
    ports = list(range(23_000, 23_040))
    leases._choice = PortChoice(ports, "x")
    names = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in ports]
    try:
        for port, name in zip(ports, names, strict=True):
            name.bind(f"\0sflow-port-{port}")
        (port,) = lease(leases, "a", HTTP)["http"]
        assert port in ports
        assert "names of all free ports" in leases.warning
        assert len(lease(leases, "b", PortBlock(name="run", count=3, contiguous=True))["run"]) == 3
    finally:
        for name in names:
            name.close()


def test_s9_real_want_of_ports_is_said_as_that(leases: PortLeases) -> None:
    leases._choice = PortChoice([23_050], "x")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 23_050))
        leased = leases.take(Lease(task="a", number=1, blocks=(HTTP,)))
    assert leased.problem == "no free port for http"
    assert leases.warning == ""
