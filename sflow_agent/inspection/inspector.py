"""Inspects this node when ordered: parts in threads, so that a hanging one delays no other beyond the limit.

Imported when the first order arrives; a run does not need it.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from protocol.messages.config import AgentConfig
from protocol.messages.facts import Inspected
from protocol.messages.inspection import MeshResult, NodeReport
from protocol.messages.orders import Inspect
from sflow_agent.core.events import AgentEvent
from sflow_agent.descriptors import Descriptors
from sflow_agent.inspection.mesh import MeshListener, reach
from sflow_agent.inspection.report import Fields, merged, parts
from sflow_agent.worker import Workers


class _Report:
    """A report that grows part by part, until its deadline."""

    def __init__(self, order: Inspect, names: list[str], deadline: float) -> None:
        self.order = order
        self.waiting = dict.fromkeys(names)
        self.deadline = deadline
        self.so_far = NodeReport()

    def miss(self, name: str, why: str) -> None:
        """Note a part that is missing, and why."""
        self.so_far = merged(self.so_far, {"unanswered": ((name, why),)})


class Inspector:
    """All orders that are not answered yet."""

    def __init__(
        self,
        descriptors: Descriptors,
        workers: Workers,
        config: AgentConfig,
        gpu_uuids: tuple[str, ...],
        report: Callable[[Inspected], None],
    ) -> None:
        self._descriptors = descriptors
        self._workers = workers
        self._config = config
        self._gpu_uuids = gpu_uuids
        self._report = report
        self._listener: MeshListener | None = None
        self._open: list[_Report] = []

    def begin(self, order: Inspect, now: float) -> None:
        """Answer at once, or when the facts are known."""
        if order.targets:
            work = partial(reach, order.targets, order.token, order.within_s)
            self._workers.run(("mesh", order.number), work, partial(self._reached, order.number))
        elif order.wants_report:
            self._begin_report(order, now)
        else:
            self._report(Inspected(number=order.number, clock_ns=time.time_ns()))

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        return min((report.deadline for report in self._open), default=None)

    def poll(self, now: float) -> Sequence[AgentEvent]:
        """Report the parts that are late as missing: a source of the loop."""
        for report in [report for report in self._open if report.deadline <= now]:
            for name in report.waiting:
                report.miss(name, f"no answer within {report.order.within_s:g} s")
            report.waiting.clear()
            self._finish(report)
        return ()

    def _begin_report(self, order: Inspect, now: float) -> None:
        work = parts(order.directories, self._config.marker, order.token, self._gpu_uuids)
        report = _Report(order, list(work), now + order.within_s)
        self._open.append(report)
        try:
            if self._listener is None:
                is_local = all(one.startswith("tcp://127.") for one in self._config.control_endpoints)
                self._listener = MeshListener(self._descriptors, order.token, self._config.node, is_local)
            report.so_far = NodeReport(mesh_port=self._listener.port)
        except OSError as error:
            report.miss("listening for other nodes", error.strerror or str(error))
        for name, find_out in work.items():
            self._workers.run((order.number, name), find_out, partial(self._take, report, name))

    def _take(self, report: _Report, name: str, part: Fields | OSError) -> None:
        if name not in report.waiting:
            return  # too late
        del report.waiting[name]
        if isinstance(part, OSError):
            report.miss(name, part.strerror or str(part))
        else:
            report.so_far = merged(report.so_far, part)
        if not report.waiting:
            self._finish(report)

    def _finish(self, report: _Report) -> None:
        self._open.remove(report)
        self._report(
            Inspected(number=report.order.number, clock_ns=time.time_ns(), report=_in_order(report.so_far))
        )

    def _reached(self, number: int, results: tuple[MeshResult, ...] | OSError) -> None:
        mesh = () if isinstance(results, OSError) else results
        self._report(Inspected(number=number, clock_ns=time.time_ns(), mesh=mesh))


def _in_order(report: NodeReport) -> NodeReport:
    """Return the report sorted: threads end in any order, and the facts of two nodes must be comparable."""
    return msgspec.structs.replace(
        report,
        versions=tuple(sorted(report.versions)),
        directories=tuple(sorted(report.directories, key=lambda one: (one.role, one.path))),
        engines=tuple(sorted(report.engines, key=lambda one: one.name)),
        unanswered=tuple(sorted(report.unanswered)),
    )
