"""Runs a planned workflow from its first agent to its summary, and closes everything on every path.

Connects the parts and decides nothing about tasks: `planning.py` makes the plan, `controller.py` runs the loop,
`ending.py` settles the outcome. Called by `cli/execution.py`.
"""

import gc
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from protocol.ids import RankId
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.monitors import monitor_orders
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.planner.context import UNKNOWN_ADDRESS
from sflow_ctl.report.run_view import RunView
from sflow_ctl.runtime.fleet.fleet import Fleet, FleetRequest, open_fleet
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.logs.consumers.console import ConsoleSink
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import HeldClaim, own_claim
from sflow_ctl.runtime.record.directory import ConnectionFacts, RunDirectory, RunFacts, run_facts
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.record.summary_writer import SummaryWriter
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
from sflow_ctl.runtime.run.signals import EndSignals

if TYPE_CHECKING:
    from sflow_ctl.core.actions.resume import PriorResult
    from sflow_ctl.report.resumed import ResumedSummary
    from sflow_ctl.runtime.artifacts.fetching import FetchDisplay
    from sflow_ctl.runtime.artifacts.transfer import Progress
    from sflow_ctl.runtime.monitor.recorder import MonitorRecorder
    from sflow_ctl.runtime.slurm.job_clock import JobClock
    from sflow_ctl.runtime.viewing.messages import Change

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


class _Record(Struct):
    """An open run directory, and the results of an earlier controller."""

    directory: RunDirectory
    facts: RunFacts
    prior: "dict[str, PriorResult]" = field(default_factory=dict)
    state: RunView | None = None
    resumed: "ResumedSummary | None" = None
    kept: "list[Change]" = field(default_factory=list)
    """The last changes of tasks that are not run again."""
    claim: HeldClaim | None = None


class _Shell(Struct, frozen=True):
    """The destinations that a controller writes to."""

    record: _Record
    output: OutputService
    journal: Journal
    log: RunLog
    job_clock: "JobClock | None"
    monitor: "MonitorRecorder | None"


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
        nodes = tuple(replace(node, address=fleet.addresses.get(node.name, "")) for node in nodes)
        here = (host, address_towards(fleet.addresses.values(), planned.settings.interface))
        plan = planned.replan(main.job_id, nodes, here)
        return _run(replace(planned, plan=plan, jobs=jobs), options, fleet, terminal, fetched)


def _run(
    planned: PlannedRun,
    options: RunOptions,
    fleet: Fleet,
    terminal: Terminal,
    fetched: "list[Progress]",
) -> RunEnd:
    """Run a plan with agents that have started or can be started; return once all of it has stopped."""
    if planned.plan.artifacts:
        from sflow_ctl.runtime.artifacts.contents import with_contents  # most runs have none

        planned = replace(planned, plan=with_contents(planned.plan))
    record = _open_record(planned, options, fleet)
    directory = record.directory
    resumed = _resumed_lines(planned, record)
    for line in resumed:
        terminal.print_line(line)
    output = _make_output(planned, fleet, record, terminal.open_console(directory.path))
    with ExitStack() as ends:
        log = RunLog(directory.path / layout.RUN_LOG, options.log_level)
        ends.callback(log.close)
        log_beginning(log, planned.run_id, planned.plan, resumed, fetched)
        journal = _open_journal(planned, record)
        ends.callback(journal.close)
        clock = _clock(planned)
        monitor = _make_monitor(planned, directory.path, log, output)
        shell = _Shell(record, output, journal, log, clock, monitor)
        controller = _make_controller(planned, options, fleet, shell)
        gc.freeze()  # the plan lives as long as the run: no garbage collection need scan it
        output.start()
        if record.claim is not None:
            record.claim.on_problem = output.warn
            ends.callback(record.claim.release)
        for warning in (*(text for job in planned.jobs for text in job.allocation.warnings), *fleet.warnings):
            log.warning(warning)
            output.say(f"warning: {warning}")
        signals = ends.enter_context(EndSignals(output.hurry))  # until the summary is written
        with ExitStack() as closing:
            if clock is not None:
                clock.start()
                closing.callback(clock.close)
            closing.callback(controller.note_output)
            closing.callback(_close_output, output, fleet)
            closing.callback(directory.remove_connection)
            closing.callback(directory.make_the_rest(planned.plan))
            finish = controller.run(fleet.early)
        end = conclude(
            finish,
            directory=directory,
            facts=record.facts,
            state=controller.state,
            outputs=controller.outputs.values,
            output_problems=controller.outputs.problems,
            refused={**fleet.link.refused(), **{kind: n for kind, n in output.counters.items() if n}},
            job_ids=[job.allocation.job_id for job in planned.jobs],
            resumed=record.resumed,
            record_error=controller.record_keeper.error,
        )
        controller.summary.finish(end.summary)
        if monitor is not None:
            _report(monitor, planned, directory.path, log, signals)
        if planned.plan.upload_all is not None:
            end = _with_archive(planned.plan, end, fleet, shell, controller, signals, terminal)
        log.info(f"run {end.summary.outcome}: exit status {int(end.status)}")
    return end


def _report(
    monitor: "MonitorRecorder", planned: PlannedRun, directory: Path, log: RunLog, signals: EndSignals
) -> None:
    """Make the reports of monitors."""
    from sflow_ctl.runtime.monitor.ending import report_monitors  # most runs have no monitor

    gone_at = planned.gone_at
    report_monitors(monitor, directory, log, lambda: signals.is_hurried, gone_at)


def _with_archive(
    plan: Plan,
    end: RunEnd,
    fleet: Fleet,
    shell: _Shell,
    controller: Controller,
    signals: EndSignals,
    terminal: Terminal,
) -> RunEnd:
    """Upload the run directory, before a moment or a signal; return the run's end with what became of that."""
    from sflow_ctl.runtime.uploads.run_archive import EndOfUpload, upload_run

    limit = EndOfUpload(controller.last_moment, lambda: signals.is_hurried)
    outcome = upload_run(plan, end.directory, fleet.common.marker, limit, shell.log, terminal.print_line)
    end = with_archive(end, outcome, shell.record.directory)
    controller.summary.finish(end.summary)
    return end


def _fleet_request(planned: PlannedRun, options: RunOptions) -> FleetRequest:
    return FleetRequest(planned.plan, planned.run_id, options.fleet, planned.settings, planned.generation)


def _open_record(planned: PlannedRun, options: RunOptions, fleet: Fleet) -> _Record:
    """Make the run directory, or reopen that of a resumed run. Raises: RunDirectoryError."""
    plan = planned.plan
    directory = RunDirectory(planned.settings.output_dir, planned.run_id)
    earlier = planned.earlier
    before = (
        None if earlier is None else msgspec.structs.replace(earlier.facts, incarnation=earlier.incarnation)
    )
    facts = run_facts(
        planned.run_id, plan.workflow, options, fleet.common.marker, directory.path.absolute(), before
    )
    facts = msgspec.structs.replace(facts, sources=planned.sources)
    record = _Record(directory, facts)
    if earlier is None:
        directory.create(plan, planned.workflow_yaml, facts, fleet.nonce)
        record.claim = HeldClaim(directory.path, own_claim(facts.incarnation))
    else:
        from sflow_ctl.runtime.run.resume import kept_changes, kept_files, make_missing_logs, prior_results

        record.claim = earlier.claim
        record.prior, record.resumed = prior_results(earlier, plan)
        record.state = RunView(plan)
        tasks = earlier.state.tasks
        record.state.tasks.update({name: tasks[name] for name in record.prior})
        record.kept = kept_changes(earlier, record.prior)
        files = kept_files(plan, record.prior)
        directory.reopen(plan, planned.workflow_yaml, facts, fleet.nonce, files)
        make_missing_logs(directory.path, plan, record.prior)
    directory.write_connection(
        ConnectionFacts(
            run_id=planned.run_id,
            pid=facts.pid,
            host=facts.host,
            client_endpoints=fleet.link.client_endpoints,
            controller_key=fleet.keys.controller.public,
            viewer_public=fleet.keys.viewer.public,
            viewer_secret=fleet.keys.viewer.secret,
        )
    )
    return record


def _make_output(planned: PlannedRun, fleet: Fleet, record: _Record, console: ConsoleSink) -> OutputService:
    gang_sizes = {task.name: task.world_size for task in planned.plan.tasks if task.world_size > 1}
    paths = partial(_log_path_of, gang_sizes=gang_sizes)
    earlier = None
    if record.prior:
        from sflow_ctl.runtime.logs.earlier_logs import EarlierLogs  # most runs are not resumed

        attempts = {name: prior.attempt for name, prior in record.prior.items()}
        earlier = EarlierLogs(record.directory.path, attempts, paths, gang_sizes)
    return OutputService(
        log_socket=fleet.link.logs,
        client_socket=fleet.link.clients,
        run_directory=record.directory.path,
        node_of_key=fleet.link.admission.node_of_key,
        log_path_of=paths,
        gang_sizes=gang_sizes,
        console=console,
        prior=record.kept,
        earlier=earlier,
    )


def _open_journal(planned: PlannedRun, record: _Record) -> Journal:
    start = planned.earlier.journal_start if planned.earlier is not None else (1, 1)
    return Journal(record.directory.path / layout.JOURNAL, record.facts.incarnation, *start)


def _clock(planned: PlannedRun) -> "JobClock | None":
    if not planned.jobs:
        return None
    from sflow_ctl.runtime.slurm.job_clock import clock_of

    return clock_of([job.allocation for job in planned.jobs])


def _make_controller(
    planned: PlannedRun,
    options: RunOptions,
    fleet: Fleet,
    shell: _Shell,
) -> Controller:
    plan, record = planned.plan, shell.record
    fleet.link.signatures = plan.signatures
    fleet.link.secrets = SECRETS.values() if plan.secrets else ()
    fleet.link.monitoring = monitor_orders(plan.monitors, plan.tasks) if plan.monitors else None
    scheduler = Scheduler(
        plan,
        stream_logs=not options.quiet,
        gone_at=planned.gone_at,
        headroom_s=planned.settings.headroom_s,
        fence_s=fleet.fence_s,
        missing=fleet.missing,
        earlier=record.prior,
        evaluator=EVALUATOR,
    )
    state = record.state or RunView(plan)
    earlier = None if planned.earlier is None else planned.earlier.timeline
    controller = Controller(
        scheduler=scheduler,
        link=fleet.link,
        launcher=fleet.launcher,
        output=shell.output,
        journal=shell.journal,
        log=shell.log,
        directory=record.directory,
        configs=fleet.configs,
        common=fleet.common,
        state=state,
        summary=SummaryWriter(record.directory.path, record.facts, state, earlier),
        job_clock=shell.job_clock,
        monitor=shell.monitor,
    )
    if record.prior:
        from sflow_ctl.runtime.run.resume import take_over_values  # most runs are not resumed

        take_over_values(controller.outputs, plan, record.prior)
    return controller


def _make_monitor(
    planned: PlannedRun, path: Path, log: RunLog, output: OutputService
) -> "MonitorRecorder | None":
    if not planned.plan.monitors:
        return None
    from sflow_ctl.runtime.monitor.recorder import MonitorRecorder

    def warn(text: str) -> None:
        log.warning(text)
        output.say(f"warning: {text}")

    plan_of = planned.earlier.plans.of if planned.earlier is not None else None
    return MonitorRecorder(path, planned.plan, warn, plan_of)


def _resumed_lines(planned: PlannedRun, record: _Record) -> list[str]:
    if planned.earlier is None or record.resumed is None:
        return []
    from sflow_ctl.report.resumed import resumed_lines

    return [*resumed_lines(record.resumed), *(f"warning: {problem}" for problem in planned.earlier.problems)]


def _close_output(output: OutputService, fleet: Fleet) -> None:
    """Close the output service, then the sockets, unless its thread is stuck and still uses them."""
    if output.close(OUTPUT_DRAIN_S):
        fleet.link.close()


def _log_path_of(rank: RankId, gang_sizes: dict[str, int]) -> str:
    """Return the path of a rank's log. Raises: IndexError for a rank that its task does not have."""
    task = rank.attempt.task
    if rank.rank >= gang_sizes.get(task, 1):
        raise IndexError(rank.rank)
    return rank_log_path(task, rank.rank) if task in gang_sizes else log_path(task)
