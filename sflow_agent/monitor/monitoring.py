"""The monitor of a node: follows which tasks run, measures meanwhile, and sends readings and marks to the controller.

A source of the agent's loop, made by `performer` at the first order for one; most runs have none. What is measured and sent
when is decided in `sampling`. Nothing here ever fails a task.
"""

import os
import time
from collections.abc import Callable, Sequence

from protocol.ids import RankId
from protocol.messages.facts import Sampled
from protocol.messages.monitor import MonitorOrders, RankWindow, Reading
from protocol.messages.node import Inventory
from protocol.messages.rank_spec import RankSpec
from sflow_agent.core.events import AgentEvent
from sflow_agent.launch.inherited import task_environment
from sflow_agent.monitor.gpus import GpuReader
from sflow_agent.monitor.host import HostReader
from sflow_agent.monitor.sampler import Sampler
from sflow_agent.monitor.sampling import ActiveMonitors, ReadingQueue
from sflow_agent.monitor.scripts import BackgroundScripts
from sflow_agent.monitor.windows import WindowWatch
from sflow_agent.node.gpu_driver import GpuDriver
from sflow_agent.worker import Workers


class Monitoring:
    """All monitors of one node."""

    def __init__(
        self,
        orders: MonitorOrders,
        workers: Workers,
        inventory: Inventory,
        driver: GpuDriver,
        marker: str,
        report: Callable[[Sampled], None],
        warn: Callable[[str], None],
    ) -> None:
        self._active = ActiveMonitors(orders)
        fields = self._active.gpu_fields
        self._queue = ReadingQueue(fields)
        self._gpus_of: dict[RankId, tuple[int, ...]] = {}
        """Of the running ranks."""
        gpus = GpuReader(inventory.gpus, inventory.gpu_problems, fields, driver)
        self._sampler = Sampler(workers, HostReader(), gpus, self._held, self._took)
        self._windows = WindowWatch(orders.windows, self._found, warn)
        self._scripts = BackgroundScripts(task_environment(dict(os.environ), marker), warn)
        self._report = report
        self._is_finished = False
        self._apply(time.monotonic())

    # ------------------------------------------------------------------ the tasks of the node

    def started(self, spec: RankSpec, path: str, now: float) -> None:
        """Note that a rank has been started, with its log at `path`."""
        self._gpus_of[spec.rank] = spec.gpus
        self._windows.started(spec, path, now)
        if self._active.started(spec.rank.attempt.task):
            self._apply(now)

    def ended(self, rank: RankId, now: float) -> None:
        """Note that a rank and its whole tree are gone."""
        if rank not in self._gpus_of:
            return  # it was never started
        self._windows.ended(rank, now)
        if self._active.ended(rank.attempt.task):
            self._apply(now)  # a last reading, with its GPUs
        del self._gpus_of[rank]

    def renamed(self, old: str, new: str) -> None:
        """Follow a log that was renamed for the next attempt."""
        self._windows.renamed(old, new)

    def note_stored(self, number: int) -> None:
        """Note that the controller has taken a message."""
        self._queue.note_stored(number)

    def finish(self) -> None:
        """Send everything that is left: the agent ends."""
        if self._is_finished:
            return
        self._is_finished = True
        self._scripts.end_all()
        self._took(self._sampler.read_last())
        self._windows.finish()
        self._send(time.monotonic(), is_last=True)

    # ------------------------------------------------------------------ the loop's side

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due: a source of the loop."""
        if self._is_finished:
            return None
        parts = (self._sampler, self._windows, self._queue, self._scripts)
        return min((at for part in parts if (at := part.next_wakeup()) is not None), default=None)

    def poll(self, now: float, /) -> Sequence[AgentEvent]:
        """Do what is due; there are no events, since nothing depends on a monitor."""
        if not self._is_finished:
            self._sampler.measure(now)
            self._windows.look(now)
            self._scripts.kill_late(now)
            self._send(now)
        return ()

    def _apply(self, now: float) -> None:
        self._sampler.change(self._active.intervals(), now)
        self._scripts.change(self._active.scripts(), now)

    def _held(self) -> frozenset[int]:
        return frozenset(index for gpus in self._gpus_of.values() for index in gpus)

    def _took(self, readings: list[Reading]) -> None:
        self._queue.add(readings, time.monotonic())

    def _found(self, window: RankWindow) -> None:
        self._queue.add_window(window, time.monotonic())

    def _send(self, now: float, is_last: bool = False) -> None:
        for message in self._queue.take(now, time.time_ns() // 1_000_000, is_last):
            self._report(message)
