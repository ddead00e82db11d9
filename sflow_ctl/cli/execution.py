"""Runs and plans a workflow for the command line: reads and plans it, opens the console, prints how it ended.

Called by `run` and `plan`; the run itself is in `runtime/run/workflow.py`.
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from protocol.errors import ExitStatus
from sflow_ctl.cli.closing import print_end
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.console import Console
from sflow_ctl.cli.terminal.lines import (
    OutputLostError,
    discard_stdout,
    print_json,
    print_line,
)
from sflow_ctl.runtime.files.settings_files import preamble
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import plan_run, read_run
from sflow_ctl.runtime.run.signals import EarlySignals, ReportSignals, StoppedEarlyError
from sflow_ctl.runtime.run.workflow import Terminal, run_plan

if TYPE_CHECKING:
    from sflow_ctl.cli.terminal.fetch_lines import FetchLines
    from sflow_ctl.plan.model import Plan
    from sflow_ctl.report.selecting.rerun import RerunChoice
    from sflow_ctl.runtime.resuming.reusing import Reuse
    from sflow_ctl.runtime.run.ending import RunEnd
    from sflow_ctl.runtime.run.planning import PlannedRun
    from sflow_ctl.runtime.supervision.supervisor import Death


def show_plan(options: RunOptions, as_json: bool = False, probes: bool = False) -> int:
    """Plan the workflow and print the plan; with `probes` also what its nodes are like.

    Raises: SpecError, PlanError, LaunchError.
    """
    planned = plan_run(read_run(options), options, is_dry=True)
    plan = planned.plan
    found = None
    if probes:
        from sflow_ctl.cli.commands.probing import print_probe, probe_nodes

        found = probe_nodes(planned, options)
    status = int(ExitStatus.OK) if found is None else found.exit_status
    reused = None
    if options.tasks.reuse:
        reused = _reused(planned, options)
    if as_json:
        from sflow_ctl.planner.show.plan_json import to_json

        shown = to_json(plan)
        if reused is not None:
            shown["reuse"] = msgspec.to_builtins(reused.decisions)
        print_json(shown if found is None else {**shown, "probe": found}, indent=2)
        return status
    from sflow_ctl.planner.show.text import plan_text

    print_line(plan_text(plan))
    if reused is not None:
        from sflow_ctl.runtime.resuming.reusing import reuse_lines

        print_line("\n".join(["", *reuse_lines(reused)]))
    if planned.earlier is not None:
        from sflow_ctl.report.resumed import resumed_lines
        from sflow_ctl.runtime.artifacts.contents import with_contents
        from sflow_ctl.runtime.run.resume import prior_results

        _, resumed = prior_results(planned.earlier, with_contents(plan), options.rerun, is_dry=True)
        verb = "resumes" if options.rerun is None else "runs again in"
        lines = resumed_lines(resumed) or ["nothing runs again"]
        print_line("\n".join(["", f"{verb} {display_path(planned.earlier.directory)}", *lines]))
    if found is not None:
        print_line("\nNodes:")
        print_probe(found)
    return status


def _reused(planned: "PlannedRun", options: RunOptions) -> "Reuse":
    """Return what the run would take over from others. Raises: UsageError."""
    from sflow_ctl.runtime.artifacts.contents import with_contents
    from sflow_ctl.runtime.assembly.parts import reused_in
    from sflow_ctl.runtime.resuming.reused_growth import with_reused_growth

    plan = with_reused_growth(with_contents(planned.plan), options, planned.settings.output_dir)
    found = reused_in(replace(planned, plan=plan), options)
    assert found is not None
    return found


def execute(options: RunOptions, launcher: LocalLauncher) -> int:
    """Plan and run the workflow, print how it ended, and return the exit status.

    Raises: FleetError when it cannot begin.
    """
    consoles: list[Console] = []
    try:
        with EarlySignals():
            end = _run(options, launcher, consoles)
            if end is None:
                return int(ExitStatus.OK)
            with ReportSignals():
                return _closed(end, consoles)
    except StoppedEarlyError as stop:
        with suppress(OutputLostError):
            print_line(f"sflow-ctl: stopped by {stop} before any task was started", err=True)
        return int(stop.status)


def _run(options: RunOptions, launcher: LocalLauncher, consoles: list[Console]) -> "RunEnd | None":
    """Plan and run the workflow; return None for a resumed run of which nothing is left to do."""
    read = read_run(options)
    if read.found.settings.preamble:
        from sflow_ctl.runtime.files.replayed import make_readable_again
        from sflow_ctl.runtime.run.preamble import run_first

        texts = read.loaded.source_texts

        def prepare() -> None:
            launcher.discard_spares()
            make_readable_again(options.workflow.files, texts)

        run_first(preamble(read.found), prepare)
    planned = plan_run(read, options, is_dry=False)
    del read  # of 100,000 tasks the files take more memory than their plan
    if planned.earlier is not None:
        before, run = planned.earlier, display_path(planned.earlier.directory)
        if before.is_completed:
            print_line(f"Run {run} has completed: there is nothing to resume")
            return None
        if options.rerun is None:
            print_line(f"Resuming {run}: {before.progress()}")
        elif _reruns_nothing(planned, options.rerun, run):
            return None
        if before.is_killed and options.rerun is None:
            end = _adopted(planned, options, launcher, consoles)
            if end is not None:
                return end
    if planned.plan.warnings:
        from sflow_ctl.cli.terminal.findings import print_warnings  # most plans have none

        print_warnings(planned.plan.warnings)

    return run_plan(planned, options, launcher, _terminal(planned.plan, options.quiet, consoles))


def _reruns_nothing(planned: "PlannedRun", choice: "RerunChoice", run: str) -> bool:
    """Return whether a rerun has nothing to do, and say so. Raises: UsageError for one that cannot be."""
    from sflow_ctl.runtime.resuming.chosen import runs_nothing

    assert planned.earlier is not None
    if runs_nothing(planned, choice):
        if planned.earlier.claim is not None:
            planned.earlier.claim.release()
        print_line(f"Nothing to rerun in {run}: its tasks have completed, and nothing has changed since")
        return True
    print_line(f"Running again in {run}: {planned.earlier.progress()}")
    return False


def _adopted(
    planned: "PlannedRun", options: RunOptions, launcher: LocalLauncher, consoles: list[Console]
) -> "RunEnd | None":
    """Continue a resumed run with the agents that its last controller has left, and return its end; None if there are none."""
    reason = "its agents ended with their controller"
    if planned.jobs:
        from sflow_ctl.runtime.supervision.adoption import NotAdopted, adopt  # only in a job

        launcher.discard_spares()
        end = adopt(planned, options, _terminal(planned.plan, options.quiet, consoles))
        if not isinstance(end, NotAdopted):
            return end
        reason = end.reason
    print_line(f"  what still runs of it is ended first, and unfinished tasks start again: {reason}")
    return None


def continue_run(death: "Death") -> int:
    """Continue the run of a controller that was killed, print how it ended, and return the exit status.

    Raises: FleetError when it cannot be continued.
    """
    from sflow_ctl.runtime.supervision.lifeline import hold_signals
    from sflow_ctl.runtime.supervision.takeover import take_over

    consoles: list[Console] = []
    hold_signals()
    end = take_over(death, lambda plan, is_quiet: _terminal(plan, is_quiet, consoles))
    with ReportSignals():
        return _closed(end, consoles)


def _terminal(plan: "Plan", is_quiet: bool, consoles: list[Console]) -> Terminal:
    """Return what shows a run to the person who started it; its console is added to `consoles`."""

    def open_console(directory: Path) -> Console:
        if "--detach" in sys.argv:
            from sflow_ctl.runtime.supervision.detaching import begin_in  # few runs are detached

            begin_in(directory)
        console = Console(plan, is_quiet=is_quiet)
        console.start()
        consoles.append(console)
        return console

    def open_fetch_display() -> "FetchLines":
        from sflow_ctl.cli.terminal.fetch_lines import FetchLines  # most runs fetch nothing

        return FetchLines()

    def say(text: str) -> None:
        print_line(f"sflow-ctl: {text}", err=True)

    return Terminal(open_console, open_fetch_display, say)


def _closed(end: "RunEnd", consoles: list[Console]) -> int:
    """Print how a run ended; return its exit status."""
    try:
        for console in consoles:
            console.close()
        if any(console.is_unread for console in consoles):
            import shlex  # hardly ever

            discard_stdout()  # writing there would never end
            run = shlex.quote(display_path(end.directory))
            print_line(f"sflow-ctl: standard output is not read: see sflow-ctl status {run}", err=True)
        print_end(end)
    except OutputLostError as error:
        return _without_output(end, error)
    return int(end.status)


def _without_output(end: "RunEnd", error: OutputLostError) -> int:
    """Return the status of a run whose report could not be printed: its own if the reader has left (`| head -1`)."""
    if error.has_reader_left:
        return int(end.status)
    with suppress(OutputLostError):
        print_line(f"sflow-ctl: cannot write to standard output: {error}", err=True)
    return int(end.status) or int(ExitStatus.INFRASTRUCTURE)
