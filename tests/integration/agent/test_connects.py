"""Ports on other hosts, tried by real connections. An address of this node stands for another host's."""

import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages import Probe
from sflow_agent.runtime.connects import ConnectWatch, is_this_node

RANK = RankId(AttemptId("a", 1), 0)


@pytest.fixture
def port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    with select.epoll() as made:
        yield made


def changes_until(
    watch: ConnectWatch, epoll: select.epoll, condition: Callable[[list[bool]], bool]
) -> list[bool]:
    """Runs the watch as the agent's loop does; whether the port was open, at each change."""
    seen: list[bool] = []
    deadline = time.monotonic() + 5
    while not condition(seen):
        now = time.monotonic()
        assert now < deadline, f"not seen within 5 s, only {seen}"
        wakeup = watch.next_wakeup()
        assert wakeup is not None
        for descriptor, _ in epoll.poll(max(0.0, wakeup - now)):
            assert watch.owns(descriptor)
            watch.finished(descriptor, time.monotonic())
        seen += [is_open for _, _, is_open, _ in watch.work(time.monotonic())]
    return seen


def test_a_port_that_opens_and_closes_is_seen(port: int, epoll: select.epoll) -> None:
    watch = ConnectWatch(epoll)
    probe = Probe(kind="readiness", tcp_host="127.0.0.1", tcp_port=port, interval_s=0.05)
    watch.add(RANK, probe, time.monotonic())
    assert watch.work(time.monotonic()) == []
    with socket.create_server(("127.0.0.1", port)):
        assert changes_until(watch, epoll, bool) == [True]
    assert changes_until(watch, epoll, bool) == [False]
    watch.remove(RANK, "readiness")
    assert watch.next_wakeup() is None
    assert epoll.poll(0) == []


def test_a_host_without_a_name_is_no_error(port: int, epoll: select.epoll) -> None:
    watch = ConnectWatch(epoll)
    probe = Probe(kind="readiness", tcp_host="no-such-host.invalid", tcp_port=port, interval_s=0.05)
    watch.add(RANK, probe, time.monotonic())
    assert watch.work(time.monotonic()) == []
    assert watch.next_wakeup() is not None
    watch.remove(RANK, "readiness")


def test_which_hosts_are_this_node() -> None:
    assert is_this_node("localhost")
    assert is_this_node("127.0.0.1")
    assert is_this_node("::1")
    assert is_this_node(socket.gethostname())
    assert not is_this_node("203.0.113.7")
    assert not is_this_node("no-such-host.invalid")
