"""Makes the parts of a run's controller: the open run directory, output, journal, clock, monitor, and the controller itself.

Connects them and decides nothing. Called by `run/workflow.py`, which closes them.
"""

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from protocol.ids import RankId
from sflow_ctl.core.commands import ReviseRun
from sflow_ctl.core.requests import Apply
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.copies.task_list import gang_sizes
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.plan.monitors import monitor_orders, telemetry_orders
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.run_view import RunView
from sflow_ctl.runtime.fleet.fleet import Fleet
from sflow_ctl.runtime.journal.checkpointing import Checkpointing, ShellNotes
from sflow_ctl.runtime.journal.snapshot import SnapshotWriter
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.logs.consumers.console import ConsoleSink
from sflow_ctl.runtime.logs.last_changes import LastChanges
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.operating.desk import RequestDesk
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import HeldClaim, own_claim
from sflow_ctl.runtime.record.directory import (
    ConnectionFacts,
    OperatorFacts,
    RunDirectory,
    RunFacts,
    run_facts,
)
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.record.summary_writer import SummaryWriter
from sflow_ctl.runtime.run.controller import Controller
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import PlannedRun
from sflow_ctl.runtime.run.preload import Preload
from sflow_ctl.runtime.run.signals import SignalInbox
from sflow_ctl.runtime.telemetry.measures import Measures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sflow_ctl.core.actions.resume import PriorResult
    from sflow_ctl.core.model.task import Task
    from sflow_ctl.plan.model import Plan
    from sflow_ctl.report.resumed import ResumedSummary
    from sflow_ctl.runtime.logs.consumers.consumer import FollowedLogs
    from sflow_ctl.runtime.monitor.recorder import MonitorRecorder
    from sflow_ctl.runtime.notices.sender import Notifier
    from sflow_ctl.runtime.resuming.reusing import Reuse
    from sflow_ctl.runtime.slurm.job_clock import JobClock
    from sflow_ctl.runtime.supervision.history import TakenOver
    from sflow_ctl.runtime.viewing.messages import Ask


class Record(Struct):
    """An open run directory, and the results of an earlier controller."""

    directory: RunDirectory
    facts: RunFacts
    prior: "dict[str, PriorResult]" = field(default_factory=dict)
    state: RunView | None = None
    resumed: "ResumedSummary | None" = None
    last: LastChanges | None = None
    """The last changes of tasks that earlier controllers have made."""
    claim: HeldClaim | None = None
    lineage: int = 0
    """The controller whose scheduler lives on in this one, which has taken over from it; 0 for one that has its own."""


class Shell(Struct, frozen=True):
    """The destinations that a controller writes to."""

    record: Record
    output: OutputService
    journal: Journal
    log: RunLog
    job_clock: "JobClock | None"
    monitor: "MonitorRecorder | None"
    desk: RequestDesk
    signals: SignalInbox


def open_record(planned: PlannedRun, options: RunOptions, fleet: Fleet) -> Record:
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
    facts = msgspec.structs.replace(facts, sources=planned.sources, labels=planned.labels)
    record = Record(directory, facts)
    if earlier is None:
        found = reused_in(planned, options)
        directory.create(plan, planned.workflow_yaml, facts, fleet.nonce)
        record.claim = HeldClaim(directory.path, own_claim(facts.incarnation))
        if found is not None:
            from sflow_ctl.runtime.resuming.reusing import write_reuse

            record.prior = found.results
            write_reuse(directory.path, found)
    else:
        from sflow_ctl.runtime.run.resume import kept_changes, kept_files, make_missing_logs, prior_results

        record.claim = earlier.claim
        record.prior, record.resumed = prior_results(earlier, plan, options.rerun)
        record.state = RunView(plan)
        tasks = earlier.state.tasks
        record.state.tasks.update({name: tasks[name] for name in record.prior})
        record.last = LastChanges(kept_changes(earlier, record.prior))
        files = kept_files(plan, record.prior)
        directory.reopen(plan, planned.workflow_yaml, facts, fleet.nonce, files)
        make_missing_logs(directory.path, plan, record.prior)
    if plan.packages:
        from sflow_ctl.runtime.files.packages import keep_packages  # few runs have some

        keep_packages(plan.packages, directory.path)
    publish_connection(directory, facts, fleet)
    return record


def reused_in(planned: PlannedRun, options: RunOptions) -> "Reuse | None":
    """Return what a run takes over from others; None for one that does not ask for it. Raises: UsageError."""
    if not options.tasks.reuse:
        return None
    from sflow_ctl.runtime.resuming.reusing import reuse  # few runs reuse results

    workspace, chosen = options.workflow.workspace_dir, options.tasks
    return reuse(planned.plan, chosen.reuse, chosen.reuse_anyway, planned.settings.output_dir, workspace)


def publish_connection(directory: RunDirectory, facts: RunFacts, fleet: Fleet) -> None:
    """Let viewers know how to reach this controller. Raises: RunDirectoryError."""
    directory.write_connection(
        ConnectionFacts(
            run_id=facts.run_id,
            pid=facts.pid,
            host=facts.host,
            client_endpoints=fleet.clients.endpoints,
            controller_key=fleet.keys.controller.public,
            viewer_secret=fleet.keys.viewer,
        ),
        OperatorFacts(secret=fleet.keys.operator),
    )


def make_output(
    planned: PlannedRun,
    fleet: Fleet,
    record: Record,
    console: ConsoleSink,
    desk: RequestDesk,
    place_of: "Callable[[RankId], int | None]",
    followed: "FollowedLogs | None" = None,
) -> OutputService:
    """Make the output service. `place_of` returns a rank's node, `followed` is what a controller has left that was killed."""
    sizes = gang_sizes(planned.plan.tasks)
    paths = partial(_log_path_of, gang_sizes=sizes)
    earlier = None
    if record.prior:
        from sflow_ctl.runtime.logs.earlier_logs import EarlierLogs  # most runs are not resumed

        attempts = {name: prior.attempt for name, prior in record.prior.items()}
        earlier = EarlierLogs(record.directory.path, attempts, paths, sizes)
    output = OutputService(
        logs=fleet.link.transport.logs,
        clients=fleet.clients,
        run_directory=record.directory.path,
        log_path_of=paths,
        gang_sizes=sizes,
        console=console,
        desk=desk,
        place_of=place_of,
        last=record.last,
        earlier=earlier,
        followed=followed,
    )
    desk.wake_sender = output.flush
    return output


def open_journal(planned: PlannedRun, record: Record) -> Journal:
    """Open the journal, after what earlier controllers have written."""
    start = planned.earlier.journal_start if planned.earlier is not None else (1, 1)
    return Journal(record.directory.path / layout.JOURNAL, record.facts.incarnation, *start)


def make_clock(planned: PlannedRun) -> "JobClock | None":
    """Make what knows when the Slurm jobs end; None outside of Slurm."""
    if not planned.jobs:
        return None
    from sflow_ctl.runtime.slurm.job_clock import clock_of

    return clock_of([job.allocation for job in planned.jobs])


def make_scheduler(
    planned: PlannedRun,
    options: RunOptions,
    fleet: Fleet,
    record: Record,
    plan: "Plan | None" = None,
    *,
    records: "list[Task] | None" = None,
) -> Scheduler:
    """Make the scheduler. A controller that takes over makes the same, of the plan that the killed one had, for its journal.

    With `records` of the tasks a checkpoint gives it its state; a resumed run makes its own, of what was done before.
    """
    return Scheduler(
        plan or planned.plan,
        stream_logs=not options.quiet,
        gone_at=planned.gone_at,
        headroom_s=planned.settings.headroom_s,
        fence_s=fleet.fence_s,
        missing=fleet.missing,
        earlier=record.prior,
        evaluator=EVALUATOR,
        plans=partial(_applied_plan, record.directory.path, fleet.keys.operator),
        records=None if record.prior else records,
    )


def _applied_plan(directory: "Path", key: str, source: str) -> "Plan":
    from sflow_ctl.runtime.revising.files import read_plan  # few runs have another plan

    return read_plan(directory, source, key)


def make_controller(
    planned: PlannedRun,
    fleet: Fleet,
    shell: Shell,
    scheduler: Scheduler,
    hand_over: "Callable[[], object]",
    taken_over: "TakenOver | None" = None,
) -> Controller:
    """Make the controller; it calls `hand_over` when another one could take over from it."""
    plan, record = planned.plan, shell.record
    fleet.link.signatures = plan.signatures
    fleet.link.secrets = SECRETS.values() if plan.secrets else ()
    fleet.link.monitoring = monitor_orders(plan.monitors, plan.tasks) if plan.monitors else None
    telemetry = planned.settings.telemetry
    if telemetry is not None:
        fleet.link.telemetry = telemetry_orders(plan.windows, plan.tasks, telemetry.every_s, len(plan.nodes))
    state = record.state or RunView(plan)
    earlier = None if planned.earlier is None else planned.earlier.timeline
    path = record.directory.path
    summary = SummaryWriter(path, record.facts, state, earlier)
    snapshots = SnapshotWriter(path, shell.journal, state, summary.timeline)
    checkpoints = Checkpointing(
        path,
        shell.journal,
        scheduler,
        record.lineage or record.facts.incarnation,
        ShellNotes() if taken_over is None else taken_over.known,
        () if planned.earlier is None else planned.earlier.takeovers,
        0 if taken_over is None else taken_over.checkpoint_size,
        1 if taken_over is None else taken_over.checkpoint_revision,
    )
    snapshots.takeovers = checkpoints.takeovers
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
        summary=summary,
        snapshots=snapshots,
        checkpoints=checkpoints,
        job_clock=shell.job_clock,
        desk=shell.desk,
        signals=shell.signals,
        monitor=shell.monitor,
        measures=_measures(planned, fleet, shell),
        hand_over=hand_over,
        preload=Preload(plan, is_reported=planned.settings.report),
    )
    if plan.notices:
        controller.progress.notifier = _notifier(plan, state, shell)
    controller.progress.revise = partial(_revise, record, shell, controller, hand_over)
    shell.desk.why_not = partial(_why_unusable, record.directory.path, fleet, len(plan.nodes), hand_over)
    if record.prior:
        from sflow_ctl.runtime.run.resume import take_over_values  # most runs are not resumed

        take_over_values(controller.outputs, plan, record.prior)
    return controller


def _notifier(plan: "Plan", state: RunView, shell: Shell) -> "Notifier":
    """Return what sends the notices of a run."""
    from sflow_ctl.plan.parts.notices import OF_TASKS
    from sflow_ctl.report.notices import Course  # most runs tell no one else
    from sflow_ctl.runtime.notices import sender

    facts, directory = shell.record.facts, str(shell.record.directory.path.absolute())
    tells_tasks = any(not OF_TASKS.isdisjoint(notice.on) for notice in plan.notices)
    course = Course(state, facts.run_id, directory, facts.host, tells_tasks=tells_tasks)
    return sender.Notifier(plan.notices, course, shell.output.warn)


def _why_unusable(
    directory: "Path", fleet: Fleet, nodes: int, hand_over: "Callable[[], object]", ask: "Ask"
) -> str:
    """Return why a request cannot even be judged, as a sentence; empty for nearly all."""
    if not isinstance(ask.action, Apply):
        return ""
    from sflow_ctl.runtime.revising.new_secrets import why_unusable

    return why_unusable(directory, fleet, nodes, hand_over, ask)


def _revise(
    record: Record,
    shell: Shell,
    controller: Controller,
    hand_over: "Callable[[], object]",
    command: ReviseRun,
    now: float,
) -> None:
    from sflow_ctl.runtime.revising.in_force import put_in_force  # few runs have another plan

    put_in_force(record, shell, controller, command, now)
    hand_over()


def _measures(planned: PlannedRun, fleet: Fleet, shell: Shell) -> Measures:
    """Return what takes in the measurements of agents."""
    telemetry = planned.settings.telemetry
    target = None if telemetry is None else telemetry.openmetrics
    path = shell.record.directory.path
    warn = partial(_warn, shell.log, shell.output)
    return Measures(path, planned.plan.nodes, fleet.link.send, warn, target, shell.monitor)


def _warn(log: RunLog, output: OutputService, text: str) -> None:
    log.warning(text)
    output.say(f"warning: {text}")


def make_monitor(
    planned: PlannedRun, path: "Path", log: RunLog, output: OutputService
) -> "MonitorRecorder | None":
    """Make what takes in the readings of agents; None for a run without monitors."""
    if not planned.plan.monitors:
        return None
    from sflow_ctl.runtime.monitor.recorder import MonitorRecorder

    plan_of = planned.earlier.plans.of if planned.earlier is not None else None
    return MonitorRecorder(path, planned.plan, partial(_warn, log, output), plan_of)


def _log_path_of(rank: RankId, gang_sizes: dict[str, int]) -> str:
    """Return the path of a rank's log. Raises: IndexError for a rank that its task does not have."""
    task = rank.attempt.task
    if rank.rank >= gang_sizes.get(task, 1):
        raise IndexError(rank.rank)
    return rank_log_path(task, rank.rank) if task in gang_sizes else log_path(task)
