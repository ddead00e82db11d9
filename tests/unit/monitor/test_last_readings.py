"""What the end of an agent reads: nothing of the monitors is lost, whatever is under way then."""

import select
import threading

import pytest

from protocol.messages.monitor import Reading, Scope
from sflow_agent.descriptors import Descriptors
from sflow_agent.monitor import sampler as sampler_module
from sflow_agent.monitor.gpus import GpuReader
from sflow_agent.monitor.host import HostReader
from sflow_agent.monitor.sampler import Sampler
from sflow_agent.worker import Workers


class SlowHost(HostReader):
    """Reads numbers; waits while it is held."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.count = 0

    def begin(self, scopes: list[Scope]) -> None:
        """Take no look."""

    def read(self, scopes: list[Scope]) -> list[Reading]:
        """Return the number of each reading."""
        self.released.wait()
        made = []
        for scope in scopes:
            self.count += 1
            made.append(Reading(scope=scope, at_ms=self.count))
        return made


class SlowGpus(GpuReader):
    """Has one reading, once it is released."""

    def __init__(self) -> None:
        super().__init__((), (), (), driver=None)  # type: ignore[arg-type]
        self.released = threading.Event()

    def read(self, held: frozenset[int]) -> list[Reading]:
        """Return a reading of the GPUs that are held."""
        self.released.wait()
        return [Reading(scope="gpu", at_ms=len(held))]


class Ending:
    """A sampler whose threads are held until the agent ends."""

    def __init__(self) -> None:
        self.host, self.gpus = SlowHost(), SlowGpus()
        workers = Workers(Descriptors(select.epoll()))
        self.sampler = Sampler(workers, self.host, self.gpus, lambda: frozenset({0, 1}), lambda _: None)

    def release(self) -> None:
        """Let all threads read."""
        self.host.released.set()
        self.gpus.released.set()

    def last(self) -> list[Scope]:
        """Return the scopes of the last readings, while threads go on."""
        timer = threading.Timer(0.05, self.release)
        timer.start()
        found = [one.scope for one in self.sampler.read_last()]
        timer.join()
        return found


def test_a_task_that_ends_during_a_reading_is_read_after_it() -> None:
    ending = Ending()
    ending.sampler.change({"cpu": 1.0, "memory": 5.0}, 0.0)  # the first look at the CPU is held
    ending.sampler.change({}, 0.5)
    assert ending.last() == ["cpu", "memory"]


def test_scopes_that_last_are_read_beside_those_that_ended() -> None:
    ending = Ending()
    ending.sampler.change({"memory": 1.0, "cpu": 1.0}, 0.0)
    ending.sampler.change({"memory": 1.0}, 0.1)
    assert ending.last() == ["cpu", "memory"], (
        "of the CPU because it has ended, of the memory because all does"
    )


def test_gpus_of_a_task_that_ends_at_once_are_read() -> None:
    ending = Ending()
    ending.sampler.change({"gpu": 1.0}, 0.0)
    ending.sampler.change({}, 0.5)
    assert ending.last() == ["gpu"]


def test_a_reading_that_hangs_costs_the_end_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "LAST_WITHIN_S", 0.01)
    ending = Ending()
    ending.sampler.change({"cpu": 1.0, "gpu": 1.0}, 0.0)
    ending.sampler.change({}, 0.5)
    assert ending.sampler.read_last() == []
    ending.release()
