"""Imports what a run needs later on, once its first tasks are on their way.

An import needs descriptors, which connections of other programs may have taken by then. Called by the controller's loop.
"""

import importlib

from sflow_ctl.plan.model import Plan

_ALWAYS = (
    "sflow_ctl.doctor.at_start",
    "sflow_ctl.runtime.logs.side_logs",
    "sflow_ctl.runtime.run.success",
    "sflow_ctl.results.table",
)
_OUTPUTS = ("sflow_ctl.results.outputs", "sflow_ctl.results.patterns", "parse")
_EXPRESSIONS = (
    "jinja2.sandbox",
    "jinja2.exceptions",
    "jinja2.meta",
    "sflow_ctl.format.expressions.engine",
    "sflow_ctl.format.expressions.templates",
)
_MONITORS = ("sflow_ctl.runtime.monitor.reports",)
_JOB = ("sflow_ctl.runtime.slurm.allocation", "sflow_ctl.runtime.slurm.job_clock")


def preload(plan: Plan) -> None:
    """Import the modules that the plan, or the end of its run, needs."""
    names = list(_ALWAYS)
    if any(task.outputs for task in plan.tasks):
        names += [*_OUTPUTS, *_EXPRESSIONS]  # later tasks may use the values
    if plan.monitors:
        names += _MONITORS
    if any(node.backend_type == "slurm" for node in plan.nodes):
        names += _JOB
    for name in names:
        importlib.import_module(name)
