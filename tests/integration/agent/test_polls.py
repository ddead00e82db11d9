"""The engine of checks without an agent around it: real sockets, many checks, few descriptors, stalled lookups."""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from protocol.ids import AttemptId, ProbeKey, RankId
from sflow_agent.core.events import CheckObserved
from sflow_agent.core.poll_schedule import PATIENCE_S, PollSchedule
from sflow_agent.descriptors import Descriptors
from sflow_agent.probes.checks.check import ActiveCheck, Done
from sflow_agent.probes.checks.tcp import ActiveTcpCheck
from sflow_agent.probes.http.connect import Resolver
from sflow_agent.probes.poller import Key, ProbePoller
from sflow_agent.probes.watcher import is_this_node
from sflow_agent.worker import Workers
from tests.integration.agent.test_logs_and_probes import free_port


def key(name: str = "a") -> Key:
    return RankId(AttemptId(name, 1), 0), ProbeKey("readiness", 0)


class Loop:
    """The part of the agent's loop for checks."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.descriptors = Descriptors(self.epoll)
        self.background = Workers(self.descriptors)
        self.resolver = Resolver(self.background)
        self.polls = ProbePoller()
        self.seen: list[CheckObserved] = []

    def connect(self, name: str, host: str, port: int, interval_s: float = 0.05) -> None:
        self.add(
            name, lambda done: ActiveTcpCheck(host, port, self.resolver, self.descriptors, done), interval_s
        )

    def add(
        self,
        name: str,
        new_trial: Callable[[Done], ActiveCheck],
        interval_s: float = 60.0,
        timeout_s: float = 60.0,
    ) -> None:
        self.polls.add(key(name), PollSchedule(interval_s, 0.005, time.monotonic()), timeout_s, new_trial)

    def turn(self) -> None:
        wakeup = self.polls.next_wakeup()
        wait_s = 0.05 if wakeup is None else min(0.05, max(0.0, wakeup - time.monotonic()))
        self.epoll.poll(wait_s)
        self.descriptors.poll(time.monotonic())
        self.seen += self.polls.work(time.monotonic())

    def until(self, condition: Callable[[], object], within_s: float = 5.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s: {self.seen[-3:]}"
            self.turn()

    def of(self, name: str) -> list[bool]:
        return [seen.is_true for seen in self.seen if seen.rank.attempt.task == name]


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.epoll.close()


class StuckCheck:
    """A check that never comes to an end."""

    open_now = 0

    def __init__(self, _done: Done) -> None:
        self._is_open = False

    doing = "it did not answer"

    def begin(self) -> None:
        self._is_open = True
        StuckCheck.open_now += 1

    def close(self) -> None:
        StuckCheck.open_now -= self._is_open
        self._is_open = False


def test_a_port_that_opens_and_closes_is_seen(loop: Loop) -> None:
    port = free_port()
    loop.connect("a", "127.0.0.1", port)
    loop.until(lambda: loop.of("a"))
    assert loop.seen[0].detail == f"127.0.0.1:{port}: connection refused"
    with socket.create_server(("127.0.0.1", port)):
        loop.until(lambda: loop.of("a")[-1])
    loop.until(lambda: not loop.of("a")[-1])
    loop.polls.remove(key("a"))
    assert loop.polls.next_wakeup() is None
    assert loop.epoll.poll(0) == []


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_localhost_is_either_of_its_addresses(loop: Loop, family: int, address: str) -> None:
    with socket.socket(family) as server:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip(f"there is no {address} here")
        server.listen()
        loop.connect("a", "localhost", server.getsockname()[1])
        loop.until(lambda: loop.of("a"))
        assert loop.of("a")[0]


def test_a_check_is_given_up_at_its_timeout_and_gives_everything_back(loop: Loop) -> None:
    loop.add("a", StuckCheck, timeout_s=0.1, interval_s=0.2)
    loop.until(lambda: len(loop.of("a")) == 2)
    assert loop.seen[0].detail == "it did not answer within 0.1 s"
    loop.polls.remove(key("a"))
    assert StuckCheck.open_now == 0


def test_the_oldest_check_makes_room_when_there_are_too_many(loop: Loop) -> None:
    loop.polls = ProbePoller(most=5)
    for number in range(8):
        loop.add(f"stuck{number}", StuckCheck)
    loop.until(lambda: StuckCheck.open_now == 5)
    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        loop.connect("good", "127.0.0.1", server.getsockname()[1])
        loop.until(lambda: loop.of("good"))
        assert loop.of("good")[0]
    assert time.monotonic() - begun < PATIENCE_S + 1.0
    assert StuckCheck.open_now <= 5
    assert "had to make room for one of 9 checks" in next(s.detail for s in loop.seen if not s.is_true)
    for number in range(8):
        loop.polls.remove(key(f"stuck{number}"))
    assert StuckCheck.open_now == 0


def test_a_check_that_cannot_begin_is_false_and_tried_again(loop: Loop) -> None:
    class Refusing(StuckCheck):
        def begin(self) -> None:
            raise OSError(24, "Too many open files")

    loop.add("a", Refusing, interval_s=0.05)
    loop.until(lambda: len(loop.of("a")) >= 2)
    assert loop.seen[0].detail == "it cannot be checked: Too many open files"


def test_f28_a_name_that_stalls_keeps_no_other_waiting(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def look_up(host: str, *_: object, **__: object) -> list[object]:
        if host.startswith("stall"):
            released.wait()
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        before = threading.active_count()
        for number in range(50):
            loop.connect(f"stalled{number}", f"stall{number % 10}", port)
        loop.connect("good", "n07", port)
        loop.until(lambda: loop.of("good"))
        assert loop.of("good")[0]
        # A name is looked up once, however many ask.
        loop.until(lambda: threading.active_count() - before == 10)
        released.set()
        loop.until(lambda: loop.of("stalled9"))
        detail = next(seen.detail for seen in loop.seen if seen.rank.attempt.task == "stalled9")
        assert detail == "stall9 has no address: Temporary failure in name resolution"


def test_f28_lookups_that_never_come_back_are_limited(loop: Loop) -> None:
    loop.background.lookups.threads = 3
    released = threading.Event()
    results: list[object] = []
    for number in range(4):
        loop.background.run(number, released.wait, results.append)
    loop.until(lambda: results)
    assert "too many lookups" in str(results[0])
    released.set()
    loop.until(lambda: len(results) == 4)
    loop.background.run("again", lambda: 7, results.append)
    loop.until(lambda: results[-1] == 7)


def test_which_hosts_are_this_node() -> None:
    assert is_this_node("localhost")
    assert is_this_node("127.0.0.1")
    assert is_this_node("::1")
    assert is_this_node(socket.gethostname())
    assert not is_this_node("203.0.113.7")
    assert not is_this_node("no-such-host.invalid")
