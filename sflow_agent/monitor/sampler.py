"""Measures what is due, in threads, and hands the readings over. `monitoring` decides what is measured.

Files of the kernel and the driver of GPUs are read apart: a driver that does not answer delays nothing else, and is not
asked again before it has answered.
"""

import threading
import time
from collections.abc import Callable
from typing import Literal

from protocol.messages.monitor import Reading, Scope
from sflow_agent.monitor.gpus import GpuReader
from sflow_agent.monitor.host import HostReader
from sflow_agent.monitor.sampling import SampleTimes
from sflow_agent.worker import Workers

Lot = Literal["host", "gpus"]
LAST_WITHIN_S = 1.0
"""How long the end of an agent waits for readings that are under way."""


class Sampler:
    """One per agent. `took` is called in the loop's thread with readings."""

    def __init__(
        self,
        workers: Workers,
        host: HostReader,
        gpus: GpuReader,
        held: Callable[[], frozenset[int]],
        took: Callable[[list[Reading]], None],
    ) -> None:
        """`held` returns the GPUs that tasks have now."""
        self._workers = workers
        self._host = host
        self._gpus = gpus
        self._held = held
        self._took = took
        self._times = SampleTimes()
        self._busy: set[Lot] = set()
        self._later: list[tuple[list[Scope], list[Scope]]] = []
        """What begins and what ends, of the node itself, while it is being read."""
        self._under_way: dict[Lot, _UnderWay] = {}
        """The readings that threads have begun last."""

    def change(self, intervals: dict[Scope, float], now: float) -> None:
        """Measure these scopes from now on; those that end are measured a last time."""
        begun, ended = self._times.change(intervals, now)
        if "gpu" in ended:
            self._read_gpus()
        hosts = _of_host(begun), _of_host(ended)
        if any(hosts):
            self._later.append(hosts)
            self._read_host([])

    def next_wakeup(self) -> float | None:
        """Return when `measure` is due."""
        return self._times.next_at()

    def measure(self, now: float) -> None:
        """Begin to read the scopes that are due."""
        due = self._times.take_due(now)
        if "gpu" in due:
            self._read_gpus()
        hosts = _of_host(due)
        if hosts:
            self._read_host(hosts)

    def read_last(self) -> list[Reading]:
        """Return what is under way and a last reading of the node itself, at once: the agent ends.

        What is under way may be the reading at the end of the last task. A reading that hangs is left alone.
        """
        deadline = time.monotonic() + LAST_WITHIN_S
        host = self._wait_for("host", deadline)
        if host is not None:
            read = {reading.scope for reading in host}
            host += self._read_changes(self._later)
            host += self._host.read([scope for scope in _of_host(self._times.scopes) if scope not in read])
            self._later = []
        return [*(host or ()), *(self._wait_for("gpus", deadline) or ())]

    def _wait_for(self, lot: Lot, deadline: float) -> list[Reading] | None:
        """Return what is under way, once it is there; None if it takes too long."""
        if lot not in self._busy:
            return []
        under_way = self._under_way[lot]
        is_over = under_way.is_over.wait(max(0.0, deadline - time.monotonic()))
        return list(under_way.readings) if is_over else None

    def _read_gpus(self) -> None:
        if "gpus" not in self._busy:
            held = self._held()
            self._begin("gpus", lambda: self._gpus.read(held))

    def _read_host(self, due: list[Scope]) -> None:
        if "host" in self._busy:
            return  # a reading that hangs is worth no queue: the next ones are skipped
        changes, self._later = self._later, []

        def read() -> list[Reading]:
            return [*self._read_changes(changes), *self._host.read(due)]

        self._begin("host", read)

    def _read_changes(self, changes: list[tuple[list[Scope], list[Scope]]]) -> list[Reading]:
        readings: list[Reading] = []
        for begun, ended in changes:
            readings += self._host.read(ended)
            self._host.begin(begun)
        return readings

    def _begin(self, lot: Lot, read: Callable[[], list[Reading]]) -> None:
        self._busy.add(lot)
        self._under_way[lot] = under_way = _UnderWay(read)

        def done(result: list[Reading] | OSError) -> None:
            self._busy.discard(lot)
            if isinstance(result, OSError):
                scope: Scope = "gpu" if lot == "gpus" else "cpu"
                text = result.strerror or str(result)
                result = [Reading(scope=scope, at_ms=time.time_ns() // 1_000_000, error=text)]
            self._took(result)
            if lot == "host" and self._later:
                self._read_host([])

        self._workers.run(("monitor", lot), under_way.read, done)


class _UnderWay:
    """A reading that a thread does."""

    def __init__(self, read: Callable[[], list[Reading]]) -> None:
        self._read = read
        self.readings: list[Reading] = []
        self.is_over = threading.Event()

    def read(self) -> list[Reading]:
        """Read, in a thread. Raises: OSError."""
        try:
            self.readings = self._read()
            return self.readings
        finally:
            self.is_over.set()


def _of_host(scopes: list[Scope]) -> list[Scope]:
    return [scope for scope in scopes if scope != "gpu"]
