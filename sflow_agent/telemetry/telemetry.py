"""Measures this node again and again and sends it: a source of the agent's loop, made by `performer` with the first `Welcome`.

Two threads measure, one /proc and one the driver of GPUs, each at most once at a time: what hangs costs measurements, never an
exit, a probe or a heartbeat. A rank's start costs nothing, its end a look for marks, and nothing is loaded before it is needed.
"""

import os
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from protocol.ids import RankId
from protocol.messages.facts import Measured
from protocol.messages.node import Gpu
from protocol.messages.rank_spec import RankSpec
from protocol.messages.telemetry import RankUse, TelemetryOrders
from sflow_agent.core.events import AgentEvent
from sflow_agent.core.rank import Rank
from sflow_agent.processes.spawn import marks_path
from sflow_agent.worker import Lane, Workers

if TYPE_CHECKING:
    from sflow_agent.monitor.windows import WindowWatch
    from sflow_agent.node.gpu_driver import GpuDriver
    from sflow_agent.telemetry.gpus import GpuLooks
    from sflow_agent.telemetry.looks import GpuLook
    from sflow_agent.telemetry.meter import KnownRank, Measurement, Meter, Order
    from sflow_agent.telemetry.outbox import Outbox

SHARE = 0.008
"""Of one CPU: what measuring may take. A node with more processes is measured less often."""
OLD_ENOUGH = 0.9
"""Of an interval, one second at most: a rank that is younger is not measured yet, so that floods of short ones cost nothing."""
MOST_SAVED_S = 0.1
"""Of a CPU: what may be used at once after a time with few processes."""

LAST_WITHIN_S = 1.0
"""How long the end of an agent waits for a measurement that is under way."""


class RunningRanks(Protocol):
    """What knows the processes of ranks: `Processes`."""

    @property
    def mains(self) -> Mapping[int, RankId]:
        """Return the main processes that run."""

    def step_marks(self) -> Mapping[int, RankId]:
        """Return the ranks that are job steps, by the marks of their processes."""


class Sources:
    """What is measured; all of it is read when a measurement begins."""

    def __init__(
        self,
        node_name: str,
        processes: RunningRanks,
        ranks: Mapping[RankId, Rank],
        log_path: Callable[[str], str],
        gpus: Sequence[Gpu],
        driver: "Callable[[], GpuDriver]",
    ) -> None:
        self.node_name, self.processes, self.ranks = node_name, processes, ranks
        self.log_path, self.gpus, self.driver = log_path, gpus, driver


class NodeTelemetry:
    """The measurements of one node."""

    def __init__(
        self,
        orders: TelemetryOrders,
        sources: Sources,
        workers: Workers,
        report: Callable[[Measured], None],
        warn: Callable[[str], None],
        now: float,
    ) -> None:
        self._every_s, self._send_every_s = orders.every_ms / 1000, orders.send_every_ms / 1000
        self._sources, self._workers = sources, workers
        self._report, self._warn = report, warn
        self._due: float | None = now + self._every_s
        self._send_at = now + self._send_every_s
        self._saved_s, self._saved_at = 0.0, now
        self._has_real_gpus = any(gpu.uuid and not gpu.simulated for gpu in sources.gpus)
        self._lane = Lane("measurements", threads=1, queued=0)
        self._gpu_lane = Lane("measurements of GPUs", threads=1, queued=0)
        self._is_measuring = self._is_asking = self._is_finished = False
        self._is_measured = threading.Event()
        """The thread is through with `_measurement`; None where it came to nothing."""
        self._measurement: Measurement | None = None
        self._began_at = now
        self._looks: list[GpuLook] = []
        self._known: dict[RankId, KnownRank] = {}
        self._meter: Meter | None = None
        self._gpu_looks: GpuLooks | None = None
        self._outbox: Outbox | None = None
        self._uses: dict[RankId, RankUse] = {}
        self._windows: list[WindowWatch] = []
        if orders.windows:
            from sflow_agent.telemetry.log_windows import watches  # few tasks have them

            self._windows = watches(orders.windows, lambda one: self._outgoing().add_windows([one]), warn)

    # ------------------------------------------------------------------ the tasks of the node

    def use_of(self, rank: RankId, used: resource.struct_rusage) -> RankUse:
        """Return what a rank has used, by its last measurement and the kernel's account of its main process."""
        measured = self._uses.get(rank) or RankUse()
        spec = self._sources.ranks[rank].spec
        if rank not in self._known:
            self._note_marks_of_short(rank, spec)
        if spec.launch_kind != "process" or spec.container is not None:
            return measured  # the account is that of the client that started it
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return measured.corrected(used.ru_utime + used.ru_stime, used.ru_maxrss, own)

    def started(self, spec: RankSpec, path: str, now: float) -> None:
        """Note that a rank has been started: for windows that its log marks."""
        for watch in self._windows:
            watch.started(spec, path, now)

    def ended(self, rank: RankId, now: float) -> None:
        """Note that a rank and its whole tree are gone: for windows that its log marks."""
        for watch in self._windows:
            watch.ended(rank, now)

    def renamed(self, old: str, new: str) -> None:
        """Follow a log that was renamed for the next attempt."""
        for watch in self._windows:
            watch.renamed(old, new)

    def note_taken(self, number: int) -> None:
        """Note that the controller has taken a message."""
        if self._outbox is not None:
            self._outbox.note_taken(number)

    def finish(self) -> None:
        """Send everything that is left: the agent ends."""
        if self._is_finished:
            return
        self._is_finished = True
        for watch in self._windows:
            watch.finish()
        if self._is_measuring and self._is_measured.wait(LAST_WITHIN_S):
            if self._measurement is not None:
                self._take(self._measurement)
            self._is_measuring = False
        if (self._meter is not None or self._known) and not self._is_measuring:
            self._take(self._measure(self._order(is_last=True)))
        if self._outbox is not None:
            self._send(self._outbox.take(is_last=True))

    # ------------------------------------------------------------------ the loop's side

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        if self._is_finished or not self._windows:
            return None if self._is_finished else self._due
        times = [self._due, *(watch.next_wakeup() for watch in self._windows)]
        return min((at for at in times if at is not None), default=None)

    def poll(self, now: float, /) -> Sequence[AgentEvent]:
        """Begin to measure when that is due; there are no events, since nothing depends on it."""
        if self._is_finished:
            return ()
        for watch in self._windows:
            watch.look(now)
        if self._due is not None and self._due <= now:
            self._due = None
            self._begin(now)
        return ()

    def _begin(self, now: float) -> None:
        """Let threads measure; the driver's answers count with the next measurement of processes."""
        self._began_at = now
        if self._has_real_gpus and not self._is_asking:
            self._is_asking = True
            self._workers.run(("telemetry", "gpus"), self._ask_gpus, self._asked, self._gpu_lane)
        self._is_measuring = True
        order = self._order(wants_newest=self._outgoing().is_free and now >= self._send_at)
        if order.wants_newest:
            self._send_at = now + self._send_every_s
        self._measurement = None
        self._is_measured.clear()
        work = partial(self._measure_in_thread, order)
        self._workers.run(("telemetry", "tasks"), work, self._measured, self._lane)

    def _order(self, *, wants_newest: bool = False, is_last: bool = False) -> "Order":
        from sflow_agent.telemetry.meter import KnownRank, Order

        ranks, began_by = self._sources.ranks, self._began_at - min(self._every_s, 1.0) * OLD_ENOUGH
        mains = {
            pid: rank
            for pid, rank in self._sources.processes.mains.items()
            if rank in self._known or (rank in ranks and ranks[rank].started_at <= began_by)
        }
        running = set(mains.values())
        for rank in running - self._known.keys():
            if rank in self._sources.ranks:
                spec = self._sources.ranks[rank].spec
                marks = marks_path(self._sources.log_path(spec.log), rank)
                self._known[rank] = KnownRank(spec.gpus, marks)
        looks, self._looks = tuple(self._looks), []
        known = dict(self._known)
        left = self._uses.keys() | running
        self._known = {rank: one for rank, one in self._known.items() if rank in left}
        return Order(mains, known, self._sources.processes.step_marks(), looks, wants_newest, is_last)

    def _note_marks_of_short(self, rank: RankId, spec: RankSpec) -> None:
        """Have the marks read of a rank that ended before it was old enough to be measured."""
        marks = marks_path(self._sources.log_path(spec.log), rank)
        if os.access(marks, os.F_OK):
            from sflow_agent.telemetry.meter import KnownRank

            self._known[rank] = KnownRank(spec.gpus, marks)

    # ------------------------------------------------------------------ in threads

    def _measure_in_thread(self, order: "Order") -> "Measurement":
        try:
            self._measurement = self._measure(order)
            return self._measurement
        finally:
            self._is_measured.set()

    def _measure(self, order: "Order") -> "Measurement":
        if self._meter is None:
            from sflow_agent.telemetry.meter import Meter

            self._meter = Meter(self._sources.node_name)
        return self._meter.measure(order)

    def _ask_gpus(self) -> "tuple[list[GpuLook], float]":
        began_s = time.thread_time()
        if self._gpu_looks is None:
            from sflow_agent.telemetry.gpus import GpuLooks

            self._gpu_looks = GpuLooks(self._sources.gpus, self._sources.driver())
            self._gpu_looks.load()  # its cost is not a measurement's
            began_s = time.thread_time()
        return self._gpu_looks.look(), time.thread_time() - began_s

    # ------------------------------------------------------------------ what they return

    def _asked(self, answer: "tuple[list[GpuLook], float] | OSError") -> None:
        self._is_asking = False
        if isinstance(answer, OSError):
            self._warn(f"its GPUs cannot be measured: {answer.strerror or answer}")
            return
        self._looks, cost_s = answer
        self._saved_s -= cost_s

    def _measured(self, result: "Measurement | OSError") -> None:
        if self._is_finished:
            return  # what came of it has been taken, if it came in time
        self._is_measuring = False
        if isinstance(result, OSError):
            self._warn(f"its tasks cannot be measured: {result.strerror or result}")
            self._due = self._began_at + max(self._every_s, 60.0)
            return
        self._take(result)
        self._due = self._began_at + max(self._every_s, self._pause_s(result.cost_s))
        self._send(self._outgoing().take(result.newest))

    def _take(self, result: "Measurement") -> None:
        self._uses = result.uses
        outbox = self._outgoing()
        outbox.add_windows(result.windows)
        for frames in result.wholes:
            outbox.add_whole(frames)
        for text in result.warnings:
            self._warn(text)

    def _pause_s(self, cost_s: float) -> float:
        """Return how long to wait so that measuring stays within its share of a CPU."""
        earned = (self._began_at - self._saved_at) * SHARE
        self._saved_at = self._began_at
        self._saved_s = min(MOST_SAVED_S, self._saved_s + earned) - cost_s
        return max(0.0, -self._saved_s / SHARE)

    def _outgoing(self) -> "Outbox":
        if self._outbox is None:
            from sflow_agent.telemetry.outbox import Outbox

            self._outbox = Outbox(time.time_ns())
        return self._outbox

    def _send(self, messages: Sequence[Measured]) -> None:
        for message in messages:
            self._report(message)
