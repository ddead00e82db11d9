"""Reads what a report needs of a run directory: journal, summary, outputs, node facts, readings. Of any run, live or ended.

What cannot be read is a problem in the report, not an error. Called by `report`, and at the end of a run by `writing.py`.
"""

import heapq
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from protocol.messages.monitor import Scope
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.monitor.metrics import MetricRow, RawReader
from sflow_ctl.report.run_report.building import NodeHardware, RunRecord, run_report
from sflow_ctl.report.run_report.courses import Courses
from sflow_ctl.report.run_report.measured import TaskUse, add_telemetry, uses_of_tasks
from sflow_ctl.report.run_report.model import RunComparison, RunReport, UsageReport
from sflow_ctl.report.run_report.usage import UsageTally
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary
from sflow_ctl.results.table import results
from sflow_ctl.runtime.journal.reader import TRANSITION, entries_of
from sflow_ctl.runtime.monitor.files import RAW, raw_paths
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.record.reader import Liveness, RunReader, last_lines
from sflow_ctl.runtime.reporting.secrecy import mask_of, masked, without_forms
from sflow_ctl.runtime.run.node_book import NodeFacts

LOG_LINES = 20
_WORDS = {Liveness.RUNNING: "running", Liveness.UNKNOWN: "silent", Liveness.DEAD: "died"}
Outputs = dict[str, dict[str, Any]]


def report_of(reader: RunReader, shown: str) -> RunReport:
    """Return the report of a run as its files are now; `shown` is what to type to name it. Raises: RunDirectoryError."""
    status = reader.status()  # before the journal: it is complete if the run had ended
    summary = reader.summary() if status.liveness is Liveness.ENDED else None
    courses, began = Courses(), reader.facts.started_wall_ns
    for change in reader.refresh():
        began = min(began, change.wall_ns)
        courses.note(change.transition, change.wall_ns)
    if summary is None and status.liveness is Liveness.DEAD:
        reader.state.lose_live_tasks()
        courses.lose(max(courses.last_ns, began))
    outputs = {
        task.name: values
        for task in reader.plan.tasks
        if task.has_values and (values := _recorded(reader.directory, task)) is not None
    }
    return _report(
        reader.directory,
        reader.facts,
        reader.state,
        summary,
        courses,
        began,
        outputs,
        liveness=_WORDS.get(status.liveness, "running"),
        liveness_text=status.text,
        takeovers=len(reader.takeovers),
        shown=shown,
        problems=reader.journal.problems(),
    )


def comparison_of(left: RunReader, right: RunReader, shown: Callable[[Path], str]) -> RunComparison:
    """Return what differs between two runs; `shown` names a directory as it is typed. Raises: RunDirectoryError."""
    from sflow_ctl.report.run_report.differences import comparison  # the end of a run does not need it

    reports = [report_of(one, shown(one.directory)) for one in (left, right)]
    masks = [mask_of(one.plan) for one in (left, right)]
    return comparison(
        reports[0],
        reports[1],
        (left.plan, right.plan),
        (workflow_text(left), workflow_text(right)),
        lambda text: without_forms(masks[1].text(masks[0].text(text))),
    )


def report_at_end(
    directory: Path, facts: RunFacts, state: RunView, summary: Summary, outputs: Outputs, shown: str
) -> RunReport:
    """Return the report of a run that has just ended in this process. Raises: OSError; RunDirectoryError."""
    courses, began = Courses(), facts.started_wall_ns
    for entry in entries_of(directory, (TRANSITION,)):
        began = min(began, entry.wall_ns)
        if entry.transition is not None:
            courses.note(entry.transition, entry.wall_ns)
    takeovers = len(summary.takeovers)
    return _report(
        directory, facts, state, summary, courses, began, outputs, takeovers=takeovers, shown=shown
    )


def _report(
    directory: Path,
    facts: RunFacts,
    state: RunView,
    summary: Summary | None,
    courses: Courses,
    began: int,
    outputs: Outputs,
    *,
    shown: str,
    takeovers: int,
    liveness: str = "",
    liveness_text: str = "",
    problems: Iterable[str] = (),
) -> RunReport:
    plan, told, nodes = state.plan, [*problems], _nodes(directory)
    has_values = any(task.has_values for task in plan.tasks)
    record = RunRecord(
        run_id=facts.run_id,
        directory=str(directory.absolute()),
        shown=shown,
        host=facts.host,
        command=tuple(map(without_forms, facts.argv)),
        resumed_by=tuple(tuple(map(without_forms, one)) for one in facts.resumes),
        takeovers=takeovers,
        state=state,
        courses=courses,
        began_ns=began,
        now_ns=time.time_ns(),
        summary=summary,
        liveness=liveness,
        liveness_text=liveness_text,
        outputs=outputs,
        results=results(plan, state, outputs) if has_values else None,
        nodes=_hardware(nodes),
        log_tail=[] if summary is None else _log_tail(directory, summary),
        versions=_versions(facts, nodes),
    )
    usage, uses = _measured(directory, plan, began, record.end_ns, told)
    record = replace(record, usage=usage, uses=uses, problems=told)
    return masked(run_report(record), mask_of(plan))


def _recorded(directory: Path, task: PlannedTask) -> dict[str, Any] | None:
    """Return the values of a task as its files have them."""
    from sflow_ctl.results.recorded import values_of  # a run that ends here has them in memory
    from sflow_ctl.runtime.files.task_results import OF_TASK

    values = values_of(_document(directory / task.name / "outputs.json"), task.outputs) or {}
    result = _document(directory / task.name / OF_TASK)
    if isinstance(result, dict) and isinstance(result.get("values"), dict):
        values = {**result["values"], **values}
    return values or None


def _document(path: Path) -> Any:
    try:
        return msgspec.json.decode(read_regular(path))
    except (OSError, *UNREADABLE):
        return None


def _hardware(nodes: Iterable[NodeFacts]) -> dict[str, NodeHardware]:
    """Return what is known of the nodes, by name."""
    return {
        one.name: NodeHardware(
            cpus=one.inventory.cpus,
            memory_bytes=one.inventory.memory_bytes,
            gpu_models=tuple(gpu.name for gpu in one.inventory.gpus),
        )
        for one in nodes
    }


def _nodes(directory: Path) -> list[NodeFacts]:
    """Return what the agents have told of their nodes."""
    try:
        return msgspec.json.decode(read_regular(directory / layout.NODES), type=list[NodeFacts])
    except (OSError, *UNREADABLE):
        return []


def _versions(facts: RunFacts, nodes: Iterable[NodeFacts]) -> dict[str, str]:
    """Return the versions of the programs of a run; that of Python by what its agents have said."""
    pythons = sorted({one.inventory.python for one in nodes if one.inventory.python})
    return {"sflow-ctl": facts.version, "Python": ", ".join(pythons) or platform.python_version()}


def _log_tail(directory: Path, summary: Summary) -> list[str]:
    """Return the end of the log of the first cause."""
    cause = summary.cause
    if cause is None or cause.task is None:
        return []
    rank = None if cause.reason is None else cause.reason.rank
    path = directory / (log_path(cause.task) if rank is None else rank_log_path(cause.task, rank))
    return [without_forms(line) for line in last_lines(path, LOG_LINES)]


def _measured(
    directory: Path, plan: Plan, began: int, end: int, problems: list[str]
) -> tuple[UsageReport | None, Mapping[str, TaskUse]]:
    """Return what telemetry and monitors have measured; what cannot be read is added to `problems`."""
    begin_ms, end_ms = began // 1_000_000, end // 1_000_000
    tally, uses = UsageTally(begin_ms, end_ms), dict[str, TaskUse]()
    if (directory / layout.TELEMETRY).exists():
        from sflow_ctl.runtime.telemetry.reader import read_telemetry

        telemetry = read_telemetry(directory)
        uses = uses_of_tasks(telemetry)
        add_telemetry(tally, telemetry)
    if (directory / RAW).exists():
        _add_monitors(tally, directory, plan, problems)
    return tally.report(), uses


def _add_monitors(tally: UsageTally, directory: Path, plan: Plan, problems: list[str]) -> None:
    """Add what monitors have measured and telemetry has not."""
    known = tally.metrics()
    for position, node in enumerate(plan.nodes):
        try:
            files = [_rows(scope, path) for scope, path in raw_paths(directory, plan, position).items()]
            for rows in heapq.merge(*files, key=lambda rows: rows[0].at_ms):
                tally.add(node.name, rows, known)
        except OSError as error:
            problems.append(f"the readings of {node.name} cannot be read: {error.strerror}")


def _rows(scope: Scope, path: Path) -> Iterator[list[MetricRow]]:
    reader = RawReader(scope)
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            rows = [row for row in reader.rows(line) if isinstance(row, MetricRow)]
            if rows:
                yield rows


def workflow_text(reader: RunReader) -> list[str]:
    """Return the lines of the workflow that a run has recorded; none if they cannot be read."""
    try:
        text = read_regular(reader.directory / layout.WORKFLOW).decode(errors="replace")
    except OSError:
        return []
    return [without_forms(line) for line in text.splitlines()]
