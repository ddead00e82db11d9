"""Gathers what a report needs of a run beside its changes of state: node facts, versions, the end of a log, measurements.

`report_at_end` is for a run that has just ended in this process, and imports as little as it can; `reading.py` reads all others.
"""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.report.run_report.building import NodeHardware, RunRecord, run_report
from sflow_ctl.report.run_report.courses import Courses
from sflow_ctl.report.run_report.model import RunReport
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary
from sflow_ctl.results.table import results
from sflow_ctl.runtime.journal.reader import TRANSITION, entries_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.reporting.secrecy import mask_of, masked, without_forms
from sflow_ctl.runtime.run.node_book import NodeFacts

LOG_LINES = 20
MONITORS = "sflow_monitor"
Outputs = dict[str, dict[str, Any]]


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
    return gathered(
        directory, facts, state, summary, courses, began, outputs, takeovers=takeovers, shown=shown
    )


def gathered(
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
    """Return the report of a run whose changes of state are known, without secrets."""
    plan, told, nodes = state.plan, [*problems], node_facts(directory)
    if summary is None:
        from sflow_ctl.runtime.viewing.progress import read_progress  # not at the end of each run

        read_progress(state, directory)
    has_values = any(task.has_values for task in kinds_of(plan.tasks))
    record = RunRecord(
        run_id=facts.run_id,
        directory=str(directory.absolute()),
        shown=shown,
        files=[one.path for one in facts.sources],
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
    if (directory / layout.TELEMETRY).exists() or (directory / MONITORS).exists():
        from sflow_ctl.runtime.reporting.measuring import measured_of  # short runs have neither

        usage, uses = measured_of(directory, plan, began, record.end_ns, told)
        record = replace(record, usage=usage, uses=uses)
    record = replace(record, problems=told)
    return masked(run_report(record), mask_of(plan))


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


def node_facts(directory: Path) -> list[NodeFacts]:
    """Return what the agents have told of their nodes."""
    try:
        return msgspec.json.decode(read_regular(directory / layout.NODES), type=list[NodeFacts])
    except (OSError, *UNREADABLE):
        return []


def _versions(facts: RunFacts, nodes: Iterable[NodeFacts]) -> dict[str, str]:
    """Return the versions of the programs of a run; that of Python by what its agents have said."""
    pythons = sorted({one.inventory.python for one in nodes if one.inventory.python})
    return {"sflow-ctl": facts.version, "Python": ", ".join(pythons) or sys.version.split()[0]}


def _log_tail(directory: Path, summary: Summary) -> list[str]:
    """Return the end of the log of the first cause."""
    cause = summary.cause
    if cause is None or cause.task is None:
        return []
    from sflow_ctl.runtime.logs.cursor import last_lines  # runs that complete need it not

    rank = None if cause.reason is None else cause.reason.rank
    path = directory / (log_path(cause.task) if rank is None else rank_log_path(cause.task, rank))
    return [without_forms(line) for line in last_lines(path, LOG_LINES)]
