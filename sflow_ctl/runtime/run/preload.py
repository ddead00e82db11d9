"""Imports what a run needs later on, while its agents connect, while nothing happens, and while they leave.

An import needs descriptors, which connections of other programs may take. Called by the controller's loop whenever it
has nothing else to do, from its beginning on.
"""

import importlib
from collections.abc import Callable

from sflow_ctl.core.model.run import Run
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan

_ALWAYS = (
    "sflow_ctl.doctor.at_start",
    "sflow_ctl.runtime.logs.side_logs",
    "sflow_ctl.runtime.run.success",
    "sflow_ctl.results.table",
)
_OUTPUTS = (
    "sflow_ctl.results.outputs",
    "sflow_ctl.results.patterns",
    "parse",
    "sflow_ctl.runtime.files.task_results",
)
_EXPRESSIONS = (
    "jinja2.sandbox",
    "jinja2.exceptions",
    "jinja2.meta",
    "sflow_ctl.format.expressions.engine",
    "sflow_ctl.format.expressions.templates",
)
_REPORT = (
    "sflow_ctl.report.run_report.building",
    "sflow_ctl.report.page.document",
    "sflow_ctl.runtime.reporting.gathering",
    "sflow_ctl.runtime.reporting.writing",
)
_MONITORS = ("sflow_ctl.runtime.monitor.reports",)
_JOB = ("sflow_ctl.runtime.slurm.allocation", "sflow_ctl.runtime.slurm.job_clock")

QUIET_MS = 20


class Preload:
    """The modules that are still to be imported."""

    def __init__(self, plan: Plan, *, is_reported: bool) -> None:
        names = list(_ALWAYS)
        if any(task.has_values for task in kinds_of(plan.tasks)):
            names += [*_OUTPUTS, *_EXPRESSIONS]  # later tasks may use the values
        if plan.monitors:
            names += _MONITORS
        if any(node.backend_type == "slurm" for node in plan.nodes):
            names += _JOB
        self._at_end = _REPORT if is_reported else ()
        self._left = [*names, *self._at_end][::-1]

    def wait(self, wait: Callable[[int], bool], timeout_ms: int, run: Run) -> None:
        """Wait for events by `wait`, or import the next module, which takes a few ms, if none is here.

        Once tasks have started, only after a moment without events: the end of a short task must not wait for an import. Nothing
        is imported while the thread for expressions works: what both would import at once is half there for one of them.
        """
        if not timeout_ms or not self._left or run.rendering or run.deciding:
            wait(timeout_ms)
        elif not wait(min(timeout_ms, QUIET_MS) if run.has_started else 0):
            importlib.import_module(self._left.pop())

    def finish(self) -> None:
        """Import what the end of a run needs; the rest was for a run that lasts."""
        for name in self._at_end:
            importlib.import_module(name)
