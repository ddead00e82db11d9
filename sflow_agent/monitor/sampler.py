"""Measures what is due, in threads, and hands the readings over. `monitoring` decides what is measured.

Files of the kernel and the driver of GPUs are read apart: a driver that does not answer delays nothing else, and is not
asked again before it has answered. A last reading is never skipped: it comes after the one that is under way.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

from protocol.machine.loop_signals import QuietThread
from protocol.messages.monitor import Reading, Scope
from sflow_agent.monitor.gpus import GpuReader
from sflow_agent.monitor.host import HostReader
from sflow_agent.monitor.sampling import SampleTimes
from sflow_agent.worker import Workers

Lot = Literal["host", "gpus"]
Work = Callable[[], list[Reading]]
LAST_WITHIN_S = 1.0
"""How long the end of an agent waits for the last readings and those that are under way."""


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
        self._host = host
        self._gpus = gpus
        self._held = held
        self._times = SampleTimes()
        self._host_lot = _Lot("host", workers, took, self._read_what_changed)
        self._gpu_lot = _Lot("gpus", workers, took, self._read_gpus_that_ended)
        self._later: list[tuple[list[Scope], list[Scope]]] = []
        """What begins and what ends, of the node itself, while it is being read."""
        self._gpus_later: frozenset[int] | None = None
        """The GPUs that tasks had when the scope ended, while GPUs were being read."""

    def change(self, intervals: dict[Scope, float], now: float) -> None:
        """Measure these scopes from now on; those that end are measured a last time."""
        begun, ended = self._times.change(intervals, now)
        if "gpu" in ended:
            self._gpus_later = self._held()
            self._read_gpus_that_ended()
        hosts = _of_host(begun), _of_host(ended)
        if any(hosts):
            self._later.append(hosts)
            self._read_what_changed()

    def next_wakeup(self) -> float | None:
        """Return when `measure` is due."""
        return self._times.next_at()

    def measure(self, now: float) -> None:
        """Begin to read the scopes that are due; a reading that hangs is worth no queue: the next ones are skipped."""
        due = self._times.take_due(now)
        if "gpu" in due and not self._gpu_lot.is_busy:
            self._read_gpus(self._held())
        hosts = _of_host(due)
        if hosts and not self._host_lot.is_busy:
            self._host_lot.begin(self._host_work(hosts))

    def read_last(self) -> list[Reading]:
        """Return the last readings at once, with those that are under way if they come in time: the agent ends."""
        lots = []
        scopes = _of_host(self._times.scopes)
        if scopes or self._later or self._host_lot.is_busy:
            self._host_lot.begin_last(self._host_work(scopes))
            lots.append(self._host_lot)
        held, self._gpus_later = self._gpus_later, None
        if "gpu" in self._times.scopes:
            held = self._held()
        if held is not None or self._gpu_lot.is_busy:
            self._gpu_lot.begin_last((list) if held is None else partial(self._gpus.read, held))
            lots.append(self._gpu_lot)
        deadline = time.monotonic() + LAST_WITHIN_S
        return [reading for lot in lots for reading in lot.last(deadline)]

    def _read_gpus_that_ended(self) -> None:
        if self._gpus_later is not None and not self._gpu_lot.is_busy:
            held, self._gpus_later = self._gpus_later, None
            self._read_gpus(held)

    def _read_gpus(self, held: frozenset[int]) -> None:
        self._gpu_lot.begin(partial(self._gpus.read, held))

    def _read_what_changed(self) -> None:
        if self._later and not self._host_lot.is_busy:
            self._host_lot.begin(self._host_work([]))

    def _host_work(self, due: list[Scope]) -> Work:
        """Return what reads the node: first what begins and ends, then what is due."""
        changes, self._later = self._later, []

        def read() -> list[Reading]:
            readings: list[Reading] = []
            for begun, ended in changes:
                readings += self._host.read(ended)
                self._host.begin(begun)
            return [*readings, *self._host.read(due)]

        return read


class _Lot:
    """What is read in a thread of its own, one reading at a time, the last one included. `then` is called after each."""

    def __init__(
        self, name: Lot, workers: Workers, took: Callable[[list[Reading]], None], then: Callable[[], None]
    ) -> None:
        self.is_busy = False
        self._name: Lot = name
        self._workers = workers
        self._took = took
        self._then = then
        self._is_read = threading.Event()
        """The thread has read what it was asked for."""
        self._is_read.set()
        self._readings: list[Reading] = []
        """Of the thread, until the loop has them."""
        self._last: list[Reading] = []
        self._thread: QuietThread | None = None

    def begin(self, work: Work) -> None:
        """Read in a thread. Not to be called while this is busy."""
        self.is_busy = True
        self._is_read.clear()

        def read() -> list[Reading]:
            try:
                self._readings = work()
                return self._readings
            finally:
                self._is_read.set()

        self._workers.run(("monitor", self._name), read, self._done)

    def begin_last(self, work: Work) -> None:
        """Read once more, after what is under way, for `last`; what is under way is not handed over any more."""
        self._thread = QuietThread(self._read_last, f"last of {self._name}", (work,))
        self._thread.start()

    def last(self, deadline: float) -> list[Reading]:
        """Return what is under way and the last reading, as far as they come until then (monotonic s)."""
        assert self._thread is not None
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return list(self._last)

    def _read_last(self, work: Work) -> None:
        self._is_read.wait()
        self._last += self._readings
        try:
            self._last += work()
        except OSError as error:
            self._last.append(self._problem(error))

    def _done(self, result: list[Reading] | OSError) -> None:
        if self._thread is not None:
            return
        self.is_busy = False
        self._readings = []
        self._is_read.set()  # where there was no thread for it
        self._took([self._problem(result)] if isinstance(result, OSError) else result)
        self._then()

    def _problem(self, error: OSError) -> Reading:
        scope: Scope = "gpu" if self._name == "gpus" else "cpu"
        at_ms = time.time_ns() // 1_000_000
        return Reading(scope=scope, at_ms=at_ms, error=error.strerror or str(error))


def _of_host(scopes: list[Scope]) -> list[Scope]:
    return [scope for scope in scopes if scope != "gpu"]
