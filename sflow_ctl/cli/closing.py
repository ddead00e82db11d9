"""The last screen of a run, and the parts of it that `status` and `attach` print as well."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from protocol.errors import ExitStatus
from protocol.text.counted import counted
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary
from sflow_ctl.report.tables import closing_table
from sflow_ctl.report.words import duration_text
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.run.ending import RunEnd

SHOWN_FAILURES = 5
SHOWN_CHARACTERS = 100
"""Of the value of an output."""


def print_end(end: RunEnd) -> None:
    """Print the closing table, the results, the first cause of a run that did not complete, and its directory."""
    print_table(closing_table(end.state))
    whole = end.summary
    _print_results(end)
    for name, value in whole.outputs.items():
        print_line(f"  output {name}: {value_text(value)}")
    with_problems = [one for one in whole.tasks if one.output_problems]
    for task in with_problems[:SHOWN_FAILURES]:
        more = len(task.output_problems) - 1
        others = f" (and {counted(more, 'more problem')})" if more else ""
        print_line(f"  missing outputs of {task.name}: {task.output_problems[0]}{others}")
    if len(with_problems) > SHOWN_FAILURES:
        print_line(f"  and of {counted(len(with_problems) - SHOWN_FAILURES, 'more task')}")
    print_cause(end.state, whole, end.directory)
    for survivor in whole.survivors:
        print_line(f"  could not be killed: process {survivor}")
    duration = duration_text(whole.duration_s)
    if end.status is ExitStatus.OK:
        print_line(f"✓ Workflow completed in {duration}{_tolerated(whole.tolerated)}")
        if is_services_only(end.state):
            print_line(
                "  nothing but services: stopped as soon as they were ready; --keep-alive keeps them running"
            )
    elif is_kept_alive_end(end.state, whole):
        print_line(f"✓ Services stopped by Ctrl-C after {duration} (exit status {int(end.status)})")
    else:
        verb = "cancelled" if whole.outcome in (Outcome.INTERRUPTED, Outcome.TERMINATED) else "failed"
        line = f"✗ Workflow {verb} after {duration}{shortfall(end.state)} (exit status {int(end.status)})"
        print_line(line, err=True)
    if whole.simulated_gpus:
        print_line(
            f"  {counted(whole.simulated_gpus, 'GPU')} {'was' if whole.simulated_gpus == 1 else 'were'} simulated"
        )
    gone = "" if end.directory.exists() else " (deleted)"
    print_line(f"  Output folder: {display_path(end.directory)}{gone}")
    if (end.directory / layout.REPORT).is_file():
        print_line(f"  Report: {display_path(end.directory / layout.REPORT)}")
    if end.state.plan.monitors:
        from sflow_ctl.runtime.monitor.files import OVERVIEW  # most runs have no monitor

        if (end.directory / OVERVIEW).exists():
            print_line(f"  Monitor: {display_path(end.directory / OVERVIEW)}")


def _print_results(end: RunEnd) -> None:
    """Print the values of all tasks, of a sweep by cell."""
    if not any(task.has_values for task in end.state.plan.tasks):
        return
    from sflow_ctl.results.table import results, results_table

    header, rows = results(end.state.plan, end.state, end.outputs)
    path = layout.RESULTS
    if any(not sweep.owner for sweep in end.state.plan.sweeps):
        from sflow_ctl.results.cells import cell_results

        (header, rows), path = cell_results(end.state.plan, end.state, end.outputs), layout.CELLS
    print_line("")
    print_table(results_table(header, rows, display_path(end.directory / path)))


def value_text(value: Any) -> str:
    """Return a value of an output in one short line."""
    if value is None:
        return "(none)"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = text.replace("\n", " ")
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def shortfall(state: RunView) -> str:
    """Return `: 2 of 7 tasks failed, 1 skipped`; nothing for a run of one task."""
    counts, total = state.counts(), len(state.tasks)
    numbers = (
        (len(state.failures()), "failed"),
        (counts.get(TaskState.CANCELLED, 0), "cancelled"),
        (counts.get(TaskState.SKIPPED, 0), "skipped"),
    )
    shown = [(number, word) for number, word in numbers if number]
    if total == 1 or not shown:
        return ""
    (number, word), *rest = shown
    parts = [f"{number} of {total} tasks {word}", *(f"{number} {word}" for number, word in rest)]
    return f": {', '.join(parts)}"


def is_services_only(state: RunView) -> bool:
    """Return True when a run completed although none of its tasks did work of its own: all were stopped services."""
    ended = [record.reason.word for record in state.tasks.values() if record.reason is not None]
    return len(ended) == len(state.tasks) > 0 and set(ended) == {"run_complete"}


def is_kept_alive_end(state: RunView, ended: Summary) -> bool:
    """Return True when Ctrl-C ended a run that stays up until then, which is its normal end."""
    return state.plan.keep_alive and ended.outcome is Outcome.INTERRUPTED and not state.failures()


def print_cause(state: RunView, ended: Summary, directory: Path) -> None:
    """Print the first cause of a run that did not complete, with the end of its log; nothing for one that did."""
    cause = ended.cause
    if cause is None or is_kept_alive_end(state, ended):
        return
    from sflow_ctl.cli.options.run_option import workflow_files
    from sflow_ctl.report.cause import LOG_LINES, first_cause  # a run that completes needs neither
    from sflow_ctl.runtime.logs.cursor import last_lines
    from sflow_ctl.runtime.record.directory import facts_of

    log = None
    if cause.task is not None:
        rank = cause.reason.rank if cause.reason is not None else None
        log = directory / (log_path(cause.task) if rank is None else rank_log_path(cause.task, rank))
        log = log if log.exists() else None
    facts = facts_of(directory)
    first, *rest = first_cause(
        state,
        ended.outcome,
        cause,
        run=None if facts is None else display_path(directory),
        files=() if facts is None else workflow_files(facts),
        log=display_path(log) if log is not None else None,
        log_tail=last_lines(log, LOG_LINES) if log is not None else (),
    )
    print_line(first, "red")
    print_line("\n".join(rest))


def _tolerated(names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:SHOWN_FAILURES]) + (", ..." if len(names) > SHOWN_FAILURES else "")
    return f"; {counted(len(names), 'non-critical failure')}: {shown}"
