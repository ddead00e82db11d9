"""Plans monitors: their intervals, scopes, windows, and which nodes and GPUs their reports are about.

Called by the pipeline when the document has a monitor, or an option asks for one.
"""

from collections.abc import Sequence
from typing import Any

from protocol.messages.monitor import (
    DEFAULT_GPU_FIELDS,
    KNOWN_GPU_FIELDS,
    SCOPES,
    SampledScope,
)
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.rules.monitors import monitor_name_findings, written_patterns
from sflow_ctl.plan.model import PlannedNode, PlannedTask
from sflow_ctl.plan.monitors import PlannedMonitor, PlannedWindow, ReportFormat, TaskWindows, mark_patterns
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import as_count, as_flag, as_int, at
from sflow_ctl.planner.source import PlanInput, Scope

LEAST_INTERVAL_MS = 100
DEFAULT_FORMATS: tuple[ReportFormat, ...] = ("csv", "svg")


def plan_monitors(
    source: PlanInput,
    scope: Scope,
    nodes: Sequence[PlannedNode],
    tasks: Sequence[PlannedTask],
    findings: Findings,
) -> tuple[PlannedMonitor, ...]:
    """Plan the monitors of the document, and default ones where options ask for them. Problems are findings."""
    whole, by_task = _asked_for(source, findings)
    has_any = whole is not None or bool(by_task)
    for finding in monitor_name_findings(
        {task.name for task in tasks} | {task.name for task in source.tasks},
        has_any=has_any,
        has_whole=whole is not None,
        where=findings.loaded.where,
    ):
        findings.add(finding.code, finding.what, finding.where, finding.hint)
    planned = []
    if whole is not None:
        with findings.collecting("workflow", "monitor", subject="workflow.monitor"):
            planned.append(_planned(whole, None, scope, nodes, findings))
            _warn_of_hosts(nodes, ("workflow", "monitor"), findings)
    for name, monitor in by_task.items():
        backends = {task.backend for task in tasks if task.base == name}
        own = [node for node in nodes if node.backend in backends]
        with findings.collecting("tasks", name, "monitor", subject=f'monitor of task "{name}"'):
            planned.append(_planned(monitor, name, scope, own, findings))
            _warn_of_hosts(own, ("tasks", name, "monitor"), findings)
    return tuple(planned)


def plan_windows(source: PlanInput, scope: Scope, findings: Findings) -> tuple[TaskWindows, ...]:
    """Plan the named windows of tasks. Problems are findings."""
    planned: list[TaskWindows] = []
    for task in source.tasks:
        if task.windows:
            with findings.collecting("tasks", task.name, "windows", subject=f'windows of task "{task.name}"'):
                planned += [
                    TaskWindows(task=task.name, name=one.name.strip(), window=_window(one, scope, "first"))
                    for one in task.windows
                ]
    return tuple(planned)


def _warn_of_hosts(nodes: Sequence[PlannedNode], path: tuple[str, ...], findings: Findings) -> None:
    """Warn where the agent that measures a node is on another machine than the node's containers."""
    far = [node.name for node in nodes if node.engine_host is not None]
    if far:
        what = f"monitors measure this machine, not the hosts of docker backends: {', '.join(far[:8])}"
        findings.warn("monitors-here", what, findings.loaded.where(*path))


def _asked_for(
    source: PlanInput, findings: Findings
) -> tuple[schema.Monitor | None, dict[str, schema.Monitor]]:
    """Return the workflow's monitor and those of tasks, with default ones for options."""
    whole = source.document.workflow.monitor
    if whole is None and source.context.monitors_workflow:
        whole = schema.Monitor()
    by_task = {task.name: task.monitor for task in source.tasks if task.monitor is not None}
    known = [task.name for task in source.tasks]
    for name in source.context.monitored_tasks:
        if name not in known:
            hint = guess_hint(name, known, f"tasks here: {', '.join(known[:10])}")
            what = f'--enable-task-monitor refers to unknown task "{name}"'
            findings.add("unknown-monitored-task", what, None, hint)
            continue
        by_task.setdefault(name, schema.Monitor())
    return whole, by_task


def _planned(
    monitor: schema.Monitor,
    task: str | None,
    scope: Scope,
    nodes: Sequence[PlannedNode],
    findings: Findings,
) -> PlannedMonitor:
    """Raises: UnplannableError, NumberError, ExpressionError."""
    resources = monitor.resources or schema.MonitorResources()
    custom = monitor.scopes.custom if monitor.scopes is not None else None
    is_custom = custom is not None and at(("scopes",), as_flag, scope.value(custom.enabled))
    scopes = _scopes(monitor, task, scope)
    if not scopes and not is_custom:
        raise UnplannableError("monitor-scopes", "no scope is active", path=_path(task, "scopes"))
    report = monitor.report or schema.MonitorReport()
    has_report = at(("report", "enabled"), as_flag, scope.value(report.enabled))
    return PlannedMonitor(
        task=task,
        scopes=scopes,
        gpu_fields=_gpu_fields(monitor, task, findings),
        script="\n".join(scope.value(line) for line in custom.script) if custom and is_custom else "",
        nodes=_chosen_nodes(resources.nodes, task, scope, nodes),
        gpus=_chosen_gpus(resources.gpus, scope),
        used_by=tuple(resources.used_by_tasks),
        window=None if monitor.window is None else _window(monitor.window, scope),
        has_report=has_report,
        formats=tuple(dict.fromkeys(report.format)) or DEFAULT_FORMATS,
    )


def _scopes(monitor: schema.Monitor, task: str | None, scope: Scope) -> tuple[SampledScope, ...]:
    default_ms = _interval(monitor.interval, task, scope, "interval")
    if monitor.scopes is None:
        return tuple(SampledScope(scope=name, interval_ms=default_ms) for name in SCOPES)
    found = []
    for name in SCOPES:
        given: schema.MonitorScope | schema.GpuScope | None = getattr(monitor.scopes, name)
        if given is None or not at(("scopes", name, "enabled"), as_flag, scope.value(given.enabled)):
            continue
        interval_ms = default_ms
        if given.interval is not None:
            interval_ms = _interval(given.interval, task, scope, "scopes", name, "interval")
        found.append(SampledScope(scope=name, interval_ms=interval_ms))
    return tuple(found)


def _interval(written: Any, task: str | None, scope: Scope, *path: str) -> int:
    value = at(path, as_int, scope.value(written))
    if value < LEAST_INTERVAL_MS:
        what = f"monitor interval must be >= {LEAST_INTERVAL_MS} ms, is {value}"
        raise UnplannableError("monitor-interval", what, "it is in milliseconds", _path(task, *path))
    return value


def _gpu_fields(monitor: schema.Monitor, task: str | None, findings: Findings) -> tuple[str, ...]:
    given = (
        monitor.scopes.gpu.fields if monitor.scopes is not None and monitor.scopes.gpu is not None else None
    )
    if given is None:
        return DEFAULT_GPU_FIELDS
    for name in given:
        if name not in KNOWN_GPU_FIELDS:
            section = ("workflow", "monitor") if task is None else ("tasks", task, "monitor")
            hint = guess_hint(name, KNOWN_GPU_FIELDS, f"fields here: {', '.join(KNOWN_GPU_FIELDS)}")
            what = f'GPUs have no field "{name}" that can be read: it stays empty'
            findings.warn(
                "monitor-fields", what, findings.loaded.where(*section, "scopes", "gpu", "fields"), hint
            )
    return tuple(dict.fromkeys(given))


def _chosen_nodes(
    given: schema.MonitorNodes | None, task: str | None, scope: Scope, nodes: Sequence[PlannedNode]
) -> tuple[int, ...] | None:
    if given is None:
        return None
    path = ("resources", "nodes")
    chosen = list(range(len(nodes)))
    if given.indices is not None:
        chosen = [at((*path, "indices"), as_int, scope.value(one)) for one in given.indices]
    if given.exclude is not None:
        excluded = given.exclude if isinstance(given.exclude, list) else [given.exclude]
        without = {at((*path, "exclude"), as_int, scope.value(one)) for one in excluded}
        chosen = [one for one in chosen if one not in without]
    if given.count is not None:
        chosen = chosen[: at((*path, "count"), as_count, scope.value(given.count), 1)]
    beyond = [one for one in chosen if not 0 <= one < len(nodes)]
    if beyond:
        what = f"node {beyond[0]} is beyond the {len(nodes)} nodes that are monitored, counted from 0"
        raise UnplannableError("monitor-resources", what, path=_path(task, *path))
    return tuple(nodes[one].index for one in chosen)


def _chosen_gpus(given: schema.MonitorGpus | None, scope: Scope) -> tuple[int, ...] | None:
    if given is None:
        return None
    path = ("resources", "gpus")
    if given.indices is not None:
        chosen = [at((*path, "indices"), as_int, scope.value(one), 0) for one in given.indices]
    elif given.count is not None:
        chosen = list(range(at((*path, "count"), as_count, scope.value(given.count), 0)))
    else:
        return None
    return tuple(chosen)


def _window(
    window: schema.MonitorWindow | schema.NamedWindow, scope: Scope, end: str = "last"
) -> PlannedWindow:
    def side(mark: str | list[str] | schema.WindowMark, default: str) -> Any:
        select = (mark.select if isinstance(mark, schema.WindowMark) else None) or default
        texts = [str(scope.value(text)) for text in written_patterns(mark)]
        return mark_patterns(texts, is_last=select == "last")

    return PlannedWindow(start=side(window.start, "first"), end=side(window.end, end))


def _path(task: str | None, *path: str) -> tuple[str, ...]:
    """Return the path of a field below the section of a monitor: `collecting` knows the beginning."""
    return ("monitor", *path) if task is not None else path
