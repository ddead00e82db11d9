"""Which reports a run has: the folder of each, the nodes, GPUs, scopes and time that are in it. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from protocol.messages.monitor import Scope
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.monitors import PlannedMonitor, ReportFormat, names_of
from sflow_ctl.report.monitor.history import RunHistory, TaskTimes
from sflow_ctl.report.monitor.metrics import MetricRow
from sflow_ctl.report.monitor.windows import ReportWindow, report_window, task_window

LIFECYCLE, WINDOWED, CROSS = "lifecycle", "windowed", "__monitored_by__"
OF_WORKFLOW = "workflow"


class ReportSpan(Struct, frozen=True):
    """One report: what of the readings is in it."""

    folder: str
    """Below the directory of monitors."""
    title: str
    nodes: tuple[int, ...]
    scopes: frozenset[Scope]
    formats: tuple[ReportFormat, ...]
    begin_ms: int
    end_ms: int
    gpus: frozenset[str] | None = None
    """Numbers of GPUs on each node; None for all."""
    window: ReportWindow | None = None

    @property
    def is_found(self) -> bool:
        """Return False for a report whose window was not found: it has no time."""
        return self.window is None or self.window.span_ms is not None

    def rows_of(self, at_ms: int, rows: Sequence[MetricRow]) -> Sequence[MetricRow]:
        """Return which rows of one line, of one of its nodes, belong to it: by time, scope and GPU."""
        scope = rows[0].scope
        if not self.begin_ms <= at_ms <= self.end_ms or scope not in self.scopes:
            return ()
        if scope != "gpu" or self.gpus is None:
            return rows
        return rows if rows[0].resource in self.gpus else ()


class _Place(NamedTuple):
    nodes: tuple[int, ...]
    gpus: frozenset[str]
    begin_ms: int
    end_ms: int


def report_spans(plan: Plan, history: RunHistory, directory: str, end_ms: int) -> list[ReportSpan]:
    """Return the reports of a run that has ended at `end_ms`; `directory` is the run's, absolute."""
    whole = next((one for one in plan.monitors if one.task is None), None)
    spans: list[ReportSpan] = []
    if whole is not None and whole.has_report:
        spans.append(_of_workflow(whole, plan, history, end_ms))
    by_task = {one.task: one for one in plan.monitors if one.task is not None and one.has_report}
    for base in dict.fromkeys(task.base for task in plan.tasks):
        own = by_task.get(base)
        if own is not None and own.used_by:
            spans += _cross(own, base, plan, history, directory, end_ms)
            own = None
        spans += _of_task(own, whole, base, plan, history, directory, end_ms)
    return spans


def _of_workflow(whole: PlannedMonitor, plan: Plan, history: RunHistory, end_ms: int) -> ReportSpan:
    used = names_of(whole.used_by, plan.tasks)
    place = _place(used, history, end_ms) if used else None
    nodes = place.nodes if place is not None else tuple(range(len(plan.nodes)))
    gpus = place.gpus if place is not None else None
    return ReportSpan(
        folder=f"{LIFECYCLE}/{OF_WORKFLOW}",
        title=f"workflow {plan.workflow}",
        nodes=whole.nodes if whole.nodes is not None else nodes,
        gpus=_texts(whole.gpus) if whole.gpus is not None else gpus,
        scopes=_scopes(whole),
        formats=whole.formats,
        begin_ms=history.begin_ms,
        end_ms=end_ms,
    )


def _of_task(
    own: PlannedMonitor | None,
    whole: PlannedMonitor | None,
    base: str,
    plan: Plan,
    history: RunHistory,
    directory: str,
    end_ms: int,
) -> Iterator[ReportSpan]:
    """Yield the reports of a task, and of each of its replicas."""
    covering = [one for one in (own, whole) if one is not None and one.has_report]
    if not covering:
        return
    for name, members in _groups(base, plan):
        place = _place(members, history, end_ms)
        if place is None:
            continue
        first = covering[0]
        span = ReportSpan(
            folder=f"{LIFECYCLE}/{name}",
            title=f"task {name}",
            nodes=own.nodes if own is not None and own.nodes is not None else place.nodes,
            gpus=_texts(own.gpus) if own is not None and own.gpus is not None else place.gpus,
            scopes=frozenset(scope for one in covering for scope in _scopes(one)),
            formats=first.formats,
            begin_ms=place.begin_ms,
            end_ms=place.end_ms,
        )
        yield _windowed(span, own, members, name, history, directory)


def _cross(
    own: PlannedMonitor, base: str, plan: Plan, history: RunHistory, directory: str, end_ms: int
) -> Iterator[ReportSpan]:
    """Yield the reports on the tasks that a task's monitor watches, over the watching task's time."""
    owners = names_of((base,), plan.tasks)
    time = _place(owners, history, end_ms)
    if time is None:
        return
    for watched in own.used_by:
        for name, members in _groups(watched, plan):
            place = _place(members, history, end_ms)
            if place is None:
                continue
            folder = f"{name}{CROSS}{base}"
            span = ReportSpan(
                folder=f"{LIFECYCLE}/{folder}",
                title=f"task {name}, monitored by {base}",
                nodes=own.nodes if own.nodes is not None else place.nodes,
                gpus=_texts(own.gpus) if own.gpus is not None else place.gpus,
                scopes=_scopes(own),
                formats=own.formats,
                begin_ms=time.begin_ms,
                end_ms=time.end_ms,
            )
            yield _windowed(span, own, owners, folder, history, directory)


def _windowed(
    span: ReportSpan,
    monitor: PlannedMonitor | None,
    owners: Sequence[str],
    name: str,
    history: RunHistory,
    directory: str,
) -> ReportSpan:
    """Return the report limited to the window of its monitor, if that has one."""
    if monitor is None or monitor.window is None:
        return span
    planned = monitor.window
    found = [
        task_window(task, f"{directory}/{log_path(task)}", history.windows.get(task, {}), planned)
        for task in owners
        if task in history.tasks
    ]
    window = report_window(found, planned)
    begin_ms, end_ms = window.span_ms or (span.begin_ms, span.end_ms)
    return replace(span, folder=f"{WINDOWED}/{name}", window=window, begin_ms=begin_ms, end_ms=end_ms)


def _groups(base: str, plan: Plan) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (name, concrete tasks) of the reports about a task: all replicas together, and each of them."""
    members = names_of((base,), plan.tasks)
    yield base, members
    if members != (base,):
        for name in members:
            yield name, (name,)


def _place(names: Sequence[str], history: RunHistory, end_ms: int) -> _Place | None:
    """Return where and when tasks ran, together; None if none of them was started."""
    times: list[TaskTimes] = [history.tasks[name] for name in names if name in history.tasks]
    begins = [one.begin_ms for one in times if one.begin_ms is not None]
    if not begins:
        return None
    return _Place(
        nodes=tuple(sorted({node for one in times for node in one.nodes})),
        gpus=_texts(tuple(gpu for one in times for gpu in one.gpus)),
        begin_ms=min(begins),
        end_ms=max(end_ms if one.end_ms is None else one.end_ms for one in times),
    )


def _scopes(monitor: PlannedMonitor) -> frozenset[Scope]:
    return frozenset(one.scope for one in monitor.scopes)


def _texts(gpus: Sequence[int]) -> frozenset[str]:
    return frozenset(map(str, gpus))
