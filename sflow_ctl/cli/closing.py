"""The last screen of a run, and the parts of it that `status` and `attach` print as well."""

from collections.abc import Sequence
from pathlib import Path

import click

from protocol.errors import ExitStatus
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.core.states import Outcome
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.report.cause import LOG_LINES, first_cause
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary
from sflow_ctl.report.tables import closing_table
from sflow_ctl.report.words import duration_text
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.run.ending import RunEnd

SHOWN_FAILURES = 5


def print_end(end: RunEnd) -> None:
    """Print the closing table, the results, the first cause of a run that did not complete, and its directory."""
    print_table(closing_table(end.state))
    whole = end.summary
    if any(task.outputs for task in end.state.plan.tasks):
        from sflow_ctl.results.table import results, results_table

        header, rows = results(end.state.plan, end.state, end.outputs)
        click.echo()
        print_table(results_table(header, rows, display_path(end.directory / layout.RESULTS)))
    print_cause(end.state, whole, end.directory)
    for survivor in whole.survivors:
        print_line(f"  could not be killed: process {survivor}")
    duration = duration_text(whole.duration_s)
    if end.status is ExitStatus.OK:
        print_line(f"✓ Workflow completed in {duration}{_tolerated(whole.tolerated)}")
    else:
        verb = "cancelled" if whole.outcome in (Outcome.INTERRUPTED, Outcome.TERMINATED) else "failed"
        print_line(f"✗ Workflow {verb} after {duration} (exit status {int(end.status)})", err=True)
    print_line(f"  Output folder: {display_path(end.directory)}")


def print_cause(state: RunView, ended: Summary, directory: Path) -> None:
    """Print the first cause of a run that did not complete, with the end of its log; nothing for one that did."""
    cause = ended.cause
    if cause is None:
        return
    from sflow_ctl.runtime.record.reader import last_lines  # a run that completes does not need it

    log = None
    if cause.task is not None:
        rank = cause.reason.rank if cause.reason is not None else None
        log = directory / (log_path(cause.task) if rank is None else rank_log_path(cause.task, rank))
    first, *rest = first_cause(
        state,
        ended.outcome,
        cause,
        run=display_path(directory),
        log=display_path(log) if log is not None else None,
        log_tail=last_lines(log, LOG_LINES) if log is not None else (),
    )
    print_line(first, "red")
    print_line("\n".join(rest))


def _tolerated(names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:SHOWN_FAILURES]) + (", ..." if len(names) > SHOWN_FAILURES else "")
    plural = "" if len(names) == 1 else "s"
    return f"; {len(names)} non-critical failure{plural}: {shown}"
