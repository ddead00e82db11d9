"""Makes the report of a run from its record: the plan, the courses of its tasks, its summary, what was measured. Pure.

`runtime/reporting` reads the record. The JSON twin is this report, and the page is made from nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from sflow_ctl.core.states import FirstCause, Outcome
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.report.cause import logs_command, resume_commands
from sflow_ctl.report.run_report.courses import AttemptCourse, Courses, TaskCourse
from sflow_ctl.report.run_report.critical_path import CriticalPath
from sflow_ctl.report.run_report.model import (
    AttemptReport,
    CauseReport,
    GroupReport,
    ReportedNode,
    RunHead,
    RunReport,
    TaskReport,
    UsageReport,
    ValueSpread,
)
from sflow_ctl.report.run_report.sweeps import results_report
from sflow_ctl.report.run_report.task_use import TaskUse
from sflow_ctl.report.run_view import RunView, TaskRecord
from sflow_ctl.report.summary import Summary
from sflow_ctl.report.tables import is_stopped_service
from sflow_ctl.report.words import node_name, outcome_text

DIED = "died"
_NO_USE = TaskUse()


class NodeHardware(Struct, frozen=True):
    """What a node has told of itself."""

    cpus: int | None = None
    memory_bytes: int | None = None
    gpu_models: tuple[str, ...] = ()


class RunRecord(Struct, frozen=True, kw_only=True):
    """What the files of a run say."""

    run_id: str
    directory: str
    """Absolute."""
    shown: str
    """What to type to name it."""
    files: Sequence[str] = ()
    """The paths of its workflow files."""
    host: str
    command: tuple[str, ...]
    resumed_by: tuple[tuple[str, ...], ...] = ()
    takeovers: int = 0
    state: RunView
    """With the whole plan."""
    courses: Courses
    began_ns: int
    now_ns: int
    """When the report is made."""
    summary: Summary | None
    liveness: str
    """Of a run without a summary: `running`, `silent` or `died`."""
    liveness_text: str = ""
    outputs: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    results: tuple[Sequence[str], Sequence[Sequence[Any]]] | None = None
    """The columns and rows of `results.csv`."""
    nodes: Mapping[str, NodeHardware] = MappingProxyType({})
    """By name."""
    usage: UsageReport | None = None
    uses: Mapping[str, TaskUse] = MappingProxyType({})
    """What tasks have used, by name."""
    log_tail: Sequence[str] = ()
    """The end of the log of the first cause."""
    versions: Mapping[str, str] = MappingProxyType({})
    problems: Sequence[str] = ()

    @property
    def end_ns(self) -> int:
        """Return when the run ended, or the last of what is known of it."""
        if self.summary is not None:
            return self.summary.ended_wall_ns
        return max(self.courses.last_ns, self.began_ns) if self.liveness == DIED else self.now_ns


def run_report(record: RunRecord) -> RunReport:
    """Return the report of a run."""
    plan = record.state.plan
    began, end = record.began_ns, record.end_ns
    tasks = tuple(_TaskReports(record).all())
    by_name = {task.name: task for task in tasks}
    path = CriticalPath(plan, record.courses, began, end)
    cause = None if record.summary is None else record.summary.cause
    warnings = [f"{one.what} ({one.where})" if one.where else one.what for one in plan.warnings]
    return RunReport(
        run=_head(record),
        cause=None if cause is None or record.summary is None else _cause(record, cause, record.summary),
        problems=tuple(record.problems),
        warnings=tuple(warnings),
        path=path.steps(None if cause is None else cause.task),
        groups=tuple(_groups(tasks)),
        nodes=tuple(_nodes(record, tasks)),
        usage=record.usage,
        results=None if record.results is None else results_report(*record.results, by_name),
        variables=dict(plan.variables),
        versions=dict(record.versions),
        tasks=tasks,
    )


def _head(record: RunRecord) -> RunHead:
    summary = record.summary
    ended = None if summary is None else summary.ended_wall_ns
    return RunHead(
        run_id=record.run_id,
        workflow=record.state.plan.workflow,
        directory=record.directory,
        state=record.liveness if summary is None else summary.outcome.value,
        text=record.liveness_text if summary is None else f"the run {outcome_text(summary.outcome)}",
        exit_status=None if summary is None else summary.exit_status,
        began_wall_ns=record.began_ns,
        ended_wall_ns=ended,
        made_wall_ns=record.now_ns,
        duration_s=round(max(0, record.end_ns - record.began_ns) / 1e9, 3),
        counts={word.value: count for word, count in record.state.counts().items()},
        host=record.host,
        job_id=record.state.plan.job_id,
        command=record.command,
        resumed_by=record.resumed_by,
        takeovers=record.takeovers,
    )


def _cause(record: RunRecord, cause: FirstCause, summary: Summary) -> CauseReport:
    reason = cause.reason
    task = cause.task
    log = ""
    if task is not None:
        log = log_path(task) if reason is None or reason.rank is None else rank_log_path(task, reason.rank)
    is_of_task = summary.outcome is Outcome.FAILED and cause.text.startswith("task ")
    how = outcome_text(summary.outcome)
    commands = [] if task is None else [logs_command(record.shown, task)]
    return CauseReport(
        text=cause.text if is_of_task else f"the run {how}: {cause.text}",
        task=task,
        attempt=cause.attempt,
        node=None if cause.node is None else node_name(record.state.plan, cause.node),
        word="" if reason is None else reason.word,
        why="" if reason is None or reason.text in cause.text else reason.text,
        line="" if reason is None else reason.line,
        hint="" if reason is None else reason.hint,
        log=log,
        log_tail=tuple(record.log_tail),
        next=(*commands, *resume_commands(record.shown, record.files)),
    )


class _TaskReports:
    """The reports of all tasks."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._state = record.state
        self._began = record.began_ns
        self._end = record.end_ns
        summary = record.summary
        self._problems = {} if summary is None else {one.name: one.output_problems for one in summary.tasks}

    def all(self) -> Iterable[TaskReport]:
        """Yield them, in the order of the plan."""
        nothing = TaskCourse()
        for planned in self._state.plan.tasks:
            course = self._record.courses.tasks.get(planned.name, nothing)
            yield self._one(planned, self._state.tasks[planned.name], course)

    def _one(self, planned: PlannedTask, record: TaskRecord, course: TaskCourse) -> TaskReport:
        reason, use = record.reason, self._record.uses.get(planned.name, _NO_USE)
        last = course.attempts[-1] if course.attempts else None
        waited, startup, ready, ran = self._durations(last, is_first=len(course.attempts) == 1)
        return TaskReport(
            name=planned.name,
            base=planned.base,
            state=record.state,
            is_service=planned.is_service,
            is_stopped=is_stopped_service(record, self._state.plan, planned),
            word="" if reason is None else reason.word,
            text="" if reason is None else reason.text,
            hint="" if reason is None else reason.hint,
            waits_for=record.waits_for,
            progress="" if record.progress is None else record.progress.text,
            waited_s=waited,
            startup_s=startup,
            ready_after_s=ready,
            ran_s=ran if record.runtime_s is None else round(record.runtime_s, 3),
            sweep=dict(planned.sweep),
            outputs=dict(self._record.outputs.get(planned.name, {})),
            output_problems=tuple(self._problems.get(planned.name, ())),
            uploads=record.uploads or _uploads(record),
            cpu_s=use.cpu_s,
            max_rss_bytes=use.max_rss_bytes,
            read_bytes=use.read_bytes,
            written_bytes=use.written_bytes,
            gpu_busy_s=use.gpu_busy_s,
            gpu_energy_j=use.gpu_energy_j,
            log=log_path(planned.name) if course.attempts else "",
            attempts=tuple(self._attempt(one, planned) for one in course.attempts),
        )

    def _durations(
        self, last: AttemptCourse | None, *, is_first: bool
    ) -> tuple[float | None, float | None, float | None, float | None]:
        if last is None:
            return None, None, None, None
        queued = last.queued if last.queued is not None else self._began if is_first else None
        waited = _between(queued, last.starting)
        startup = _between(last.starting, last.running)
        ready = _between(last.running, last.ready)
        return waited, startup, ready, _between(last.running, last.ended or self._end)

    def _attempt(self, one: AttemptCourse, planned: PlannedTask) -> AttemptReport:
        nodes: tuple[int, ...] = () if one.node is None else (one.node,)
        if not planned.placement.is_flexible and one.node in planned.placement.nodes:
            nodes = planned.placement.nodes[: planned.node_count]
        return AttemptReport(
            number=one.number,
            nodes=nodes,
            gpus=one.gpus,
            queued_s=self._at(one.queued),
            starting_s=self._at(one.starting),
            running_s=self._at(one.running),
            ready_s=self._at(one.ready),
            stopping_s=self._at(one.stopping),
            ended_s=self._at(one.ended),
            end=one.end,
            word=one.word,
            text=one.text,
            exit=one.exit,
        )

    def _at(self, time: int | None) -> float | None:
        return None if time is None else round((time - self._began) / 1e9, 3)


def _between(first: int | None, last: int | None) -> float | None:
    return None if first is None or last is None else round(max(0, last - first) / 1e9, 3)


def _uploads(record: TaskRecord) -> str:
    done = record.uploaded
    if done is None:
        return ""
    problems = f", {len(done.problems)} not" if done.problems else ""
    return f"{done.count} uploaded{problems}"


def _groups(tasks: Sequence[TaskReport]) -> Iterable[GroupReport]:
    members: dict[str, list[TaskReport]] = {}
    for task in tasks:
        members.setdefault(task.base, []).append(task)
    for name, group in members.items():
        counts: dict[str, int] = {}
        for task in group:
            counts[task.state.value] = counts.get(task.state.value, 0) + 1
        yield GroupReport(
            name=name,
            count=len(group),
            counts=counts,
            retried=sum(max(0, len(task.attempts) - 1) for task in group),
            waited_s=_spread(task.waited_s for task in group),
            startup_s=_spread(task.startup_s for task in group),
            ready_after_s=_spread(task.ready_after_s for task in group),
            ran_s=_spread(task.ran_s for task in group),
        )


def _spread(values: Iterable[float | None]) -> ValueSpread | None:
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    low, high = (
        known[(len(known) - 1) // 2],
        known[len(known) // 2],
    )  # the statistics module takes 4 ms to import
    return ValueSpread(known[0], round((low + high) / 2, 3), known[-1])


def _nodes(record: RunRecord, tasks: Sequence[TaskReport]) -> Iterable[ReportedNode]:
    plan, whole = record.state.plan, max(1e-9, (record.end_ns - record.began_ns) / 1e9)
    spans: dict[int, list[tuple[float, float]]] = {}
    of_gpus: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for task in tasks:
        for attempt in task.attempts:
            begin = attempt.starting_s if attempt.starting_s is not None else attempt.running_s
            if begin is None:
                continue
            span = (begin, attempt.ended_s if attempt.ended_s is not None else whole)
            for node in attempt.nodes:
                spans.setdefault(node, []).append(span)
                for gpu in attempt.gpus:
                    of_gpus.setdefault((node, gpu), []).append(span)
    for position, planned in enumerate(plan.nodes):
        facts = record.nodes.get(planned.name, NodeHardware())
        gpus = sorted(gpu for at, gpu in of_gpus if at == position)
        yield ReportedNode(
            index=position,
            name=planned.name,
            backend=planned.backend,
            gpus=planned.gpus,
            gpu_models=facts.gpu_models,
            cpus=facts.cpus,
            memory_bytes=facts.memory_bytes,
            busy_s=round(covered(spans.get(position, [])), 3),
            gpu_busy={str(gpu): min(1.0, round(covered(of_gpus[position, gpu]) / whole, 4)) for gpu in gpus},
        )


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return how much time spans cover together."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        if end > until:
            total += end - max(begin, until)
            until = end
    return total
