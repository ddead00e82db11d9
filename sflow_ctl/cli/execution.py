"""A run as its user sees it: the console while it goes on, the table and the cause at its end."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from protocol.errors import ExitStatus
from sflow_ctl.cli.terminal.console import Console, wants_colours
from sflow_ctl.cli.terminal.shown import columns, shown_path
from sflow_ctl.core.states import Outcome
from sflow_ctl.core.tasks import log_path, rank_log_path
from sflow_ctl.report.report import closing_table, duration_text, first_cause
from sflow_ctl.runtime.files.settings_files import preamble
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.run.ending import RunEnd
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import plan_run, read_run
from sflow_ctl.runtime.run.workflow import Terminal, run_plan

if TYPE_CHECKING:
    from sflow_ctl.cli.terminal.fetch_lines import FetchLines

SHOWN_FAILURES = 5
CAUSE_LINES = 20


def show_plan(options: RunOptions, as_json: bool = False) -> int:
    """Plans and says what would be done. Raises: SpecError, PlanError."""
    plan = plan_run(read_run(options), options, is_dry=True).plan
    if as_json:
        from sflow_ctl.planner.show.plan_json import to_json

        click.echo(msgspec.json.format(msgspec.json.encode(to_json(plan)), indent=2))
    else:
        from sflow_ctl.planner.show.text import plan_text

        click.echo(plan_text(plan))
    return int(ExitStatus.OK)


def execute(options: RunOptions, launcher: LocalLauncher) -> int:
    """Plans, runs, and shows how it ended; returns the exit status. Raises: FleetError before anything
    runs.
    """
    read = read_run(options)
    if read.found.settings.preamble:
        from sflow_ctl.runtime.run.preamble import run_first

        run_first(preamble(read.found), launcher.discard_spares)
    planned = plan_run(read, options, is_dry=False)
    if planned.earlier is not None:
        before, run = planned.earlier, shown_path(planned.earlier.directory)
        if before.is_completed:
            click.echo(f"Run {run} has completed: nothing is left to do")
            return int(ExitStatus.OK)
        click.echo(f"Going on with {run}: {before.progress()}")
    consoles: list[Console] = []

    def open_console(directory: Path) -> Console:
        console = Console(planned.plan, directory, is_quiet=options.quiet)
        console.start()
        consoles.append(console)
        return console

    def open_fetch_display() -> "FetchLines":
        from sflow_ctl.cli.terminal.fetch_lines import FetchLines  # most runs fetch nothing

        return FetchLines()

    def say(text: str) -> None:
        click.echo(f"sflow-ctl: {text}", err=True)

    end = run_plan(planned, options, launcher, Terminal(open_console, open_fetch_display, say))
    for console in consoles:
        console.close()
    show_end(end)
    return int(end.status)


def _tolerated(names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:SHOWN_FAILURES]) + (", ..." if len(names) > SHOWN_FAILURES else "")
    return f"; {len(names)} failed, which does not count: {shown}"


def show_end(end: RunEnd) -> None:
    """The closing table, the first cause of a run that did not complete, and where everything is."""
    colours = wants_colours(sys.stdout.isatty(), os.environ)
    click.echo(closing_table(end.state, columns(), colours=colours))
    whole = end.summary
    if any(task.outputs for task in end.state.plan.tasks):
        from sflow_ctl.results.table import results, results_table

        header, rows = results(end.state.plan, end.state, end.outputs)
        click.echo("\n" + results_table(header, rows, shown_path(end.directory / "results.csv")))
    if whole.cause is not None:
        from sflow_ctl.runtime.record.reader import last_lines  # a run that completes does not need it

        task = whole.cause.task
        rank = whole.cause.reason.rank if whole.cause.reason is not None else None
        log = None
        if task is not None:
            log = end.directory / (log_path(task) if rank is None else rank_log_path(task, rank))
        block = first_cause(
            end.state,
            whole.outcome,
            whole.cause,
            run=shown_path(end.directory),
            log=shown_path(log) if log is not None else None,
            log_tail=last_lines(log, CAUSE_LINES) if log is not None else (),
            colours=colours,
        )
        click.echo(block)
    for survivor in whole.survivors:
        click.echo(f"  could not be ended: process {survivor}")
    duration = duration_text(whole.duration_s)
    if end.status is ExitStatus.OK:
        click.echo(f"✓ Workflow completed in {duration}{_tolerated(whole.tolerated)}")
    elif whole.outcome in (Outcome.INTERRUPTED, Outcome.TERMINATED):
        click.echo(f"✗ Workflow cancelled after {duration} (exit status {int(end.status)})", err=True)
    else:
        click.echo(f"✗ Workflow failed after {duration} (exit status {int(end.status)})", err=True)
    click.echo(f"  Output folder: {shown_path(end.directory)}")
