"""Last readings of monitors while earlier ones are under way or never come: real threads, a node that answers when it is let."""

import select
import threading
from collections.abc import Iterator

import pytest

from protocol.messages.monitor import Reading, Scope
from protocol.messages.node import Gpu
from sflow_agent.descriptors import Descriptors
from sflow_agent.monitor import sampler as sampler_module
from sflow_agent.monitor.gpus import GpuReader
from sflow_agent.monitor.host import HostReader
from sflow_agent.monitor.sampler import Sampler
from sflow_agent.node.gpu_driver import GpuDriver
from sflow_agent.worker import Workers
from tests.support import wait_until

Asked = tuple[str, tuple[str, ...]]


class SlowHost(HostReader):
    """A node whose files are read when `answers` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self.asked: list[Asked] = []

    def begin(self, scopes: list[Scope]) -> None:
        self.asked.append(("begin", tuple(scopes)))

    def read(self, scopes: list[Scope]) -> list[Reading]:
        self.asked.append(("read", tuple(scopes)))
        assert self.answers.wait(60)
        return [Reading(scope=scope, at_ms=len(self.asked), values=(1.0,)) for scope in scopes]


class SlowGpus(GpuReader):
    """One GPU that answers when `answers` is set."""

    def __init__(self) -> None:
        super().__init__((Gpu(index=0, uuid="GPU-0", name="x"),), (), ("index",), GpuDriver())
        self.answers = threading.Event()
        self.held: list[frozenset[int]] = []

    def read(self, held: frozenset[int]) -> list[Reading]:
        self.held.append(held)
        assert self.answers.wait(60)
        return [Reading(scope="gpu", at_ms=len(self.held), values=(len(held),))]


class Node:
    """A sampler, and what it hands over."""

    def __init__(self, descriptors: Descriptors) -> None:
        self.descriptors = descriptors
        self.host, self.gpus = SlowHost(), SlowGpus()
        self.held: frozenset[int] = frozenset({0})
        self.took: list[Reading] = []
        workers = Workers(descriptors)
        self.sampler = Sampler(workers, self.host, self.gpus, lambda: self.held, self.took.extend)

    def begin(self, *scopes: Scope) -> None:
        """Measure, and be in the middle of the first reading."""
        self.sampler.change(dict.fromkeys(scopes, 10.0), 0.0)
        if set(scopes) - {"gpu"}:
            self.host.answers.set()
            wait_until(self._has_begun, "the first look", 30)
            self.host.answers.clear()
        self.sampler.measure(1.0)
        if set(scopes) - {"gpu"}:
            wait_until(lambda: self.host.asked[-1][1] != (), "the reading that is under way", 30)
        if "gpu" in scopes:
            wait_until(lambda: bool(self.gpus.held), "the reading of GPUs", 30)

    def _has_begun(self) -> bool:
        self.descriptors.poll(0.0)
        return not self.sampler._host_lot.is_busy

    def let_it_answer(self) -> None:
        self.host.answers.set()
        self.gpus.answers.set()


@pytest.fixture
def node() -> Iterator[Node]:
    with select.epoll() as epoll:
        made = Node(Descriptors(epoll))
        yield made
        made.let_it_answer()


def scopes_of(readings: list[Reading]) -> list[str]:
    return [reading.scope for reading in readings]


def test_scopes_that_end_during_a_reading_are_read_although_the_agent_ends_at_once(node: Node) -> None:
    node.begin("cpu", "memory")
    node.sampler.change({}, 2.0)
    node.let_it_answer()
    assert scopes_of(node.sampler.read_last()) == ["cpu", "memory"] * 2
    assert node.host.asked[-3:] == [("read", ("cpu", "memory")), ("begin", ()), ("read", ())]


def test_gpus_that_end_during_a_reading_are_read_although_the_agent_ends_at_once(node: Node) -> None:
    node.begin("gpu")
    node.sampler.change({}, 2.0)
    node.held = frozenset()
    node.let_it_answer()
    assert scopes_of(node.sampler.read_last()) == ["gpu", "gpu"]
    assert node.gpus.held == [frozenset({0})] * 2, "the task had it until the end"


def test_gpus_that_end_during_a_reading_are_read_after_it(node: Node) -> None:
    node.begin("gpu")
    node.sampler.change({}, 2.0)
    node.let_it_answer()

    def both() -> bool:
        node.descriptors.poll(0.0)
        return len(node.took) == 2

    wait_until(both, "the last reading", 30)
    assert node.sampler.read_last() == [], "nothing is measured, and nothing under way"


def test_a_reading_that_the_loop_has_not_seen_yet_comes_with_the_last_one(node: Node) -> None:
    node.begin("cpu", "gpu")
    node.let_it_answer()
    wait_until(lambda: node.sampler._gpu_lot._is_read.is_set(), "the GPUs", 30)
    assert scopes_of(node.sampler.read_last()) == ["cpu", "cpu", "gpu", "gpu"]
    node.descriptors.poll(0.0)
    assert node.took == [], "none is handed over twice"


def test_a_driver_that_hangs_costs_only_its_own_readings(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "LAST_WITHIN_S", 2.0)
    node.begin("cpu", "gpu")
    node.host.answers.set()
    assert scopes_of(node.sampler.read_last()) == ["cpu", "cpu"]
