"""Runs a planned workflow from its first agent to its summary, and closes everything on every path.

Connects the parts and decides nothing about tasks: `planning.py` makes the plan, `controller.py` runs the loop,
`ending.py` settles the outcome. Called by `cli/execution.py`.
"""

import gc
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sflow_ctl.core.commands import FinishRun
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.planner.context import UNKNOWN_ADDRESS
from sflow_ctl.runtime.assembly.parts import (
    Record,
    Shell,
    make_clock,
    make_controller,
    make_monitor,
    make_output,
    make_scheduler,
    open_journal,
    open_record,
)
from sflow_ctl.runtime.fleet.fleet import Fleet, FleetRequest, open_fleet
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.logs.consumers.console import ConsoleSink
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.operating.desk import RequestDesk
from sflow_ctl.runtime.operating.request_files import RequestFiles
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.run.controller import Controller
from sflow_ctl.runtime.run.ending import RunEnd, conclude, with_archive
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import BackendJob, PlannedRun
from sflow_ctl.runtime.run.preflight import (
    await_gpus,
    check_programs,
    fetch_missing_artifacts,
    log_beginning,
)
from sflow_ctl.runtime.run.signals import SignalInbox
from sflow_ctl.runtime.supervision.handover import end_succession, hand_over_run

if TYPE_CHECKING:
    from sflow_ctl.core.scheduler import Scheduler
    from sflow_ctl.runtime.artifacts.fetching import FetchDisplay
    from sflow_ctl.runtime.artifacts.transfer import Progress
    from sflow_ctl.runtime.monitor.recorder import MonitorRecorder
    from sflow_ctl.runtime.notices.sender import Notifier
    from sflow_ctl.runtime.supervision.history import TakenOver

OUTPUT_DRAIN_S = 30.0
"""How long the end of a run waits for output in transit."""


class Terminal(Struct, frozen=True):
    """The output of a run for the person who started it."""

    open_console: Callable[[Path], ConsoleSink]
    """Make the console, once the run directory exists."""
    open_fetch_display: Callable[[], "FetchDisplay"]
    """Make the progress display of artifacts, if some must be fetched."""
    print_line: Callable[[str], object]
    """Print what the run waits for before it can begin."""


def run_plan(planned: PlannedRun, options: RunOptions, launcher: LocalLauncher, terminal: Terminal) -> RunEnd:
    """Run a plan, on local agents or in the Slurm job that it was planned for.

    Raises: ArtifactError, RunDirectoryError, AllocationError, LaunchError, all before a task has started.
    """
    check_programs(planned.plan)
    fetched = fetch_missing_artifacts(planned.plan, terminal.open_fetch_display)  # agents would have to wait
    if planned.salloc:
        from sflow_ctl.runtime.slurm.own_allocation import own_allocations

        launcher.discard_spares()
        backends, commands = zip(*planned.salloc, strict=True)
        with own_allocations(commands, terminal.print_line) as granted:
            own = tuple(BackendJob(job, backend) for job, backend in zip(granted, backends, strict=True))
            return _run_in_jobs(planned, (*planned.jobs, *own), options, launcher, terminal, fetched)
    if planned.jobs:
        return _run_in_jobs(planned, planned.jobs, options, launcher, terminal, fetched)
    await_gpus(planned.plan, options.fleet, terminal.print_line)
    with open_fleet(_fleet_request(planned, options), (), launcher) as fleet:
        return _run(planned, options, fleet, terminal, fetched)


def _run_in_jobs(
    planned: PlannedRun,
    jobs: tuple[BackendJob, ...],
    options: RunOptions,
    launcher: LocalLauncher,
    terminal: Terminal,
    fetched: "list[Progress]",
) -> RunEnd:
    """Start the jobs' agents with a provisional plan, then run the plan made from their reports."""
    from sflow_ctl.runtime.fleet.addresses import address_towards  # a run on this machine does not need it

    host = os.uname().nodename
    main = jobs[0].allocation
    nodes = tuple(node for job in jobs for node in job.nodes)
    plan = planned.replan(main.job_id, nodes, (host, UNKNOWN_ADDRESS))
    if all(node.backend_type == "slurm" for node in plan.nodes):
        launcher.discard_spares()
    request = _fleet_request(replace(planned, plan=plan), options)
    with open_fleet(request, [job.allocation for job in jobs], launcher, terminal.print_line) as fleet:
        nodes = tuple(
            replace(
                node, address=fleet.addresses.get(node.name, ""), gpu_bytes=fleet.gpu_bytes.get(node.name, 0)
            )
            for node in nodes
        )
        here = (host, address_towards(fleet.addresses.values(), planned.settings.interface))
        plan = planned.replan(main.job_id, nodes, here)
        return _run(replace(planned, plan=plan, jobs=jobs, here=here), options, fleet, terminal, fetched)


def _run(
    planned: PlannedRun,
    options: RunOptions,
    fleet: Fleet,
    terminal: Terminal,
    fetched: "list[Progress]",
) -> RunEnd:
    """Run a plan with agents that have started or can be started; return once all of it has stopped."""
    planned.replan.end()
    if planned.plan.artifacts or any(task.reads for task in kinds_of(planned.plan.tasks)):
        from sflow_ctl.runtime.artifacts.contents import with_contents  # most runs have none

        planned = replace(planned, plan=with_contents(planned.plan))
    if planned.earlier is not None:  # revisions are counted over all controllers
        counted = msgspec.structs.replace(planned.plan, revision=planned.earlier.state.plan.revision)
        if counted.blocks:
            from sflow_ctl.runtime.resuming.blocks import with_iterations_that_count  # few runs have loops

            counted = with_iterations_that_count(planned.earlier, counted, options.rerun)
        planned = replace(planned, plan=counted)
    elif options.tasks.reuse:
        from sflow_ctl.runtime.resuming.reused_growth import with_reused_growth  # few runs reuse results

        planned = replace(
            planned, plan=with_reused_growth(planned.plan, options, planned.settings.output_dir)
        )
    with SignalInbox() as signals:  # a run with a directory is stopped in order, and has a summary
        record = open_record(planned, options, fleet)
        resumed = _resumed_lines(planned, record)
        for line in resumed:
            terminal.print_line(line)
        scheduler = make_scheduler(planned, options, fleet, record)

        def log_begin(log: RunLog) -> None:
            log_beginning(log, planned.run_id, planned.plan, resumed, fetched)

        return carry_out(planned, options, fleet, terminal, record, scheduler, signals, log_begin)


def carry_out(
    planned: PlannedRun,
    options: RunOptions,
    fleet: Fleet,
    terminal: Terminal,
    record: Record,
    scheduler: "Scheduler",
    signals: SignalInbox,
    log_begin: Callable[[RunLog], object],
    taken_over: "TakenOver | None" = None,
) -> RunEnd:
    """Run the loop with an open record; return once all has stopped. `taken_over` is what a killed controller has left.

    `signals` has been entered, and stays so until the summary is written.
    """
    directory = record.directory
    followed = None if taken_over is None else taken_over.followed
    desk = RequestDesk()
    place_of = scheduler.run.node_of
    console = terminal.open_console(directory.path)
    output = make_output(planned, fleet, record, console, desk, place_of, followed)
    with ExitStack() as ends:
        log = RunLog(directory.path / layout.RUN_LOG, options.log_level)
        ends.callback(log.close)
        log_begin(log)
        journal = open_journal(planned, record)
        ends.callback(journal.close)
        clock = make_clock(planned)
        monitor = make_monitor(planned, directory.path, log, output)
        shell = Shell(record, output, journal, log, clock, monitor, desk, signals)

        def hand_over() -> None:  # the plan may be another one by then
            hand_over_run(replace(planned, plan=scheduler.plan), options, fleet, record)

        controller = make_controller(planned, fleet, shell, scheduler, hand_over, taken_over)
        ends.callback(controller.standstill.end)
        ends.callback(controller.checkpoints.close)
        gc.freeze()  # the plan lives as long as the run: no garbage collection need scan it
        gc.enable()
        output.start()
        if record.claim is not None:
            record.claim.on_problem = output.warn
            ends.callback(record.claim.release)
        for warning in (*(text for job in planned.jobs for text in job.allocation.warnings), *fleet.warnings):
            log.warning(warning)
            output.say(f"warning: {warning}")
        with ExitStack() as closing:
            if clock is not None:
                clock.start()
                closing.callback(clock.close)
            closing.callback(controller.note_output)
            closing.callback(_close_output, output, fleet)
            closing.callback(directory.remove_connection)
            if taken_over is None:
                closing.callback(directory.make_the_rest(planned.plan))
            closing.enter_context(RequestFiles(directory.path, desk))
            closing.callback(signals.hurries, output.hurry)
            if taken_over is not None:
                controller.continue_after(taken_over)
            finish = controller.run(fleet.early)
            if controller.takeover is not None:
                controller.takeover.record(time.monotonic())
        end = _concluded(finish, planned, fleet, record, controller, output, scheduler)
        end = _reported(planned, end, fleet, shell, controller, terminal)
        log.info(f"run {end.summary.outcome}: exit status {int(end.status)}")
        end_succession(directory.path)
    return end


def _concluded(
    finish: FinishRun,
    planned: PlannedRun,
    fleet: Fleet,
    record: Record,
    controller: Controller,
    output: OutputService,
    scheduler: "Scheduler",
) -> RunEnd:
    """Write how the run ended, and return it."""
    return conclude(
        finish,
        directory=record.directory,
        facts=record.facts,
        state=controller.state,
        outputs=controller.outputs.values,
        output_problems=controller.outputs.problems,
        refused=_refused(fleet, output),
        job_ids=[job.allocation.job_id for job in planned.jobs],
        resumed=record.resumed,
        record_error=controller.record_keeper.error,
        takeovers=() if controller.takeover is None else controller.takeover.all,
        agent_restarts=controller.nodes.agent_restarts(),
        windows=controller.measures.close(),
        values=scheduler.run.deferred,
    )


def _refused(fleet: Fleet, output: OutputService) -> dict[str, int]:
    """Return how often something was refused, dropped or repeated, by kind."""
    counts = output.counters + Counter(fleet.clients.refused()) + Counter(fleet.link.refused())
    return dict(counts)


def _reported(
    planned: PlannedRun,
    end: RunEnd,
    fleet: Fleet,
    shell: Shell,
    controller: Controller,
    terminal: Terminal,
) -> RunEnd:
    """Write the reports of a run that has ended, upload it, tell of its end; return the end with what became of that."""
    signals = shell.signals
    controller.summary.finish(end.summary)
    if shell.monitor is not None:
        _report(shell.monitor, planned, end.directory, shell.log, signals)
    if planned.settings.report and not signals.is_hurried:
        from sflow_ctl.runtime.reporting.writing import write_at_end  # preloaded, unless the run was short

        write_at_end(end, shell.record.facts, shell.log)
    if planned.plan.upload_all is not None:
        end = _with_archive(planned.plan, end, fleet, shell, controller, signals, terminal)
    if controller.progress.notifier is not None:
        _tell_end(controller.progress.notifier, end, shell.log, signals, terminal)
    return end


def _report(
    monitor: "MonitorRecorder", planned: PlannedRun, directory: Path, log: RunLog, signals: SignalInbox
) -> None:
    """Make the reports of monitors."""
    from sflow_ctl.runtime.monitor.ending import report_monitors  # most runs have no monitor

    gone_at = planned.gone_at
    report_monitors(monitor, directory, log, lambda: signals.is_hurried, gone_at)


def _with_archive(
    plan: Plan,
    end: RunEnd,
    fleet: Fleet,
    shell: Shell,
    controller: Controller,
    signals: SignalInbox,
    terminal: Terminal,
) -> RunEnd:
    """Upload the run directory, before a moment or a signal; return the run's end with what became of that."""
    from sflow_ctl.runtime.uploads.run_archive import EndOfUpload, upload_run

    limit = EndOfUpload(controller.last_moment, lambda: signals.is_hurried)
    outcome = upload_run(plan, end.directory, fleet.common.marker, limit, shell.log, terminal.print_line)
    end = with_archive(end, outcome, shell.record.directory)
    controller.summary.finish(end.summary)
    return end


def _tell_end(
    notifier: "Notifier", end: RunEnd, log: RunLog, signals: SignalInbox, terminal: Terminal
) -> None:
    """Tell of the end of the run; the output service that shows warnings has been closed."""

    def warn(text: str) -> None:
        log.warning(text)
        terminal.print_line(f"warning: {text}")

    notifier.warn = warn
    notifier.finish(end.summary, lambda: signals.is_hurried)


def _fleet_request(planned: PlannedRun, options: RunOptions) -> FleetRequest:
    return FleetRequest(planned.plan, planned.run_id, options.fleet, planned.settings, planned.generation)


def _resumed_lines(planned: PlannedRun, record: Record) -> list[str]:
    if planned.earlier is None or record.resumed is None:
        return []
    from sflow_ctl.report.resumed import resumed_lines

    return [*resumed_lines(record.resumed), *(f"warning: {problem}" for problem in planned.earlier.problems)]


def _close_output(output: OutputService, fleet: Fleet) -> None:
    """Close the output service, then the connections, unless its thread is stuck and still uses them."""
    if output.close(OUTPUT_DRAIN_S):
        fleet.clients.close()
        fleet.link.close()
