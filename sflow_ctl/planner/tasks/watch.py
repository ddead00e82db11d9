"""Plans what is watched while a task runs: its probes, the deadline of its readiness, and its activity."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from protocol.messages.checks import Probe
from protocol.messages.rank_spec import HangPolicy
from sflow_ctl.format import schema
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.plan.results import DeferredPort
from sflow_ctl.planner.compatibility import Compatibility
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.launch.plan import plugin_rendering
from sflow_ctl.planner.placement.placed import PlacedTask
from sflow_ctl.planner.tasks.probes import DeferredProbes, plan_probes, readiness_deadlines_s
from sflow_ctl.planner.tasks.scripts import Scripts
from sflow_ctl.planner.tasks.stopping import plan_hang

PROGRESS_GROUPS = frozenset(("current", "total", "percent", "message"))
"""Names of groups that say how far a task is."""


class WatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a planned task about its probes. Meanings: `PlannedTask`."""

    probes: tuple[Probe, ...]
    deferred_tcp_ports: tuple[DeferredPort, ...]
    deadlines_s: tuple[float | None, ...]
    hang: HangPolicy | None
    progress: str


def deferred_probes(
    context: PlanContext,
    scripts: Scripts,
    placed: PlacedTask,
    names: Mapping[str, Any],
    nodes: Sequence[PlannedNode],
    env: Mapping[str, str],
) -> DeferredProbes:
    """Return what evaluates the values of a copy's probes; `nodes` are empty while its placement is flexible."""
    plugins = partial(plugin_rendering, context, placed, nodes, env)
    return DeferredProbes(scripts, placed.task, placed.replica.name, names, plugins)


def plan_watch(
    task: schema.Task,
    value: Callable[[Any], Any],
    deferred: DeferredProbes,
    replicas_of: Mapping[str, Sequence[str]],
    rules: Compatibility,
) -> WatchPlan:
    """Plan the probes of one copy; `deferred` collects expressions that must wait for its start.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    probes = plan_probes(task, deferred, replicas_of, rules)
    return WatchPlan(
        probes=probes,
        deferred_tcp_ports=tuple(deferred.tcp_ports),
        deadlines_s=readiness_deadlines_s(task, value, rules),
        hang=plan_hang(task, value),
        progress="" if task.progress is None else _progress(task, str(value(task.progress.log_regex))),
    )


def _progress(task: schema.Task, regex: str) -> str:
    """Return the expression for lines that say how far a task is. Raises: UnplannableError."""
    path = ("progress", "log_regex")
    try:
        compiled = re.compile(regex)
    except re.error as error:
        what = f'task "{task.name}": "{regex}" of its progress is not a regular expression: {error}'
        raise UnplannableError("wrong-pattern", what, path=path) from error
    unknown = sorted(compiled.groupindex.keys() - PROGRESS_GROUPS)
    if unknown:
        what = f'task "{task.name}": its progress has a group called "{unknown[0]}"'
        raise UnplannableError("wrong-pattern", what, f"use {', '.join(sorted(PROGRESS_GROUPS))}", path)
    if not compiled.groups or (
        compiled.groupindex and not compiled.groupindex.keys() & {"current", "percent"}
    ):
        what = f'task "{task.name}": "{regex}" of its progress has no group for what is done'
        raise UnplannableError("wrong-pattern", what, r"e.g. log_regex: 'step (\d+)/(\d+)'", path)
    return regex
