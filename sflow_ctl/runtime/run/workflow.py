"""One `sflow-ctl run` from options to its end: plan, run directory, keys, sockets, controller, summary.

Puts the parts together and takes them apart again on every path; decides nothing about tasks.
"""

import gc
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from protocol.errors import ExitStatus, Finding, PlanError, UsageError
from protocol.ids import RankId
from sflow_ctl.core.commands import FinishRun
from sflow_ctl.core.resume import PriorResult
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import FirstCause, Outcome
from sflow_ctl.core.tasks import log_path, rank_log_path
from sflow_ctl.format.loader import LoadedDocument, load_documents
from sflow_ctl.format.schema import CONTAINER_ENGINES
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.planner.context import UNKNOWN_ADDRESS
from sflow_ctl.planner.pipeline import PlanContext, build_plan
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary, summary, summary_json
from sflow_ctl.runtime.files.settings_files import (
    JOB_FIELDS,
    RunSettings,
    job_fields,
    run_settings,
    settings_layers,
)
from sflow_ctl.runtime.fleet.fleet import Fleet, Generation, job_fleet, local_fleet
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.logs.console_feed import Console
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.run.controller import Controller
from sflow_ctl.runtime.run.directory import ConnectionFacts, RunDirectory, make_run_id, run_facts
from sflow_ctl.runtime.run.journal import Journal
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.run_log import RunLog
from sflow_ctl.settings import Effective
from sflow_ctl.version import VERSION

if TYPE_CHECKING:
    from sflow_ctl.planner.context import JobNode
    from sflow_ctl.runtime.artifacts.fetching import FetchDisplay
    from sflow_ctl.runtime.artifacts.transfer import Progress
    from sflow_ctl.runtime.run.resume import PriorRun
    from sflow_ctl.runtime.slurm.allocation import Allocation

OUTPUT_DRAIN_S = 30.0
_EXIT = {
    Outcome.COMPLETED: ExitStatus.OK,
    Outcome.FAILED: ExitStatus.RUN_FAILED,
    Outcome.TIMEOUT: ExitStatus.TIME_LIMIT,
    Outcome.INTERRUPTED: ExitStatus.INTERRUPTED,
    Outcome.TERMINATED: ExitStatus.TERMINATED,
    Outcome.INFRASTRUCTURE: ExitStatus.INFRASTRUCTURE,
}


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended, for whoever shows it."""

    status: ExitStatus
    state: RunView
    summary: Summary
    directory: Path
    outputs: dict[str, dict[str, Any]]
    """What the outputs of tasks say, by task."""


@dataclass(frozen=True, slots=True)
class ReadRun:
    """The files of a run, and the settings that count for it."""

    loaded: LoadedDocument
    found: Effective
    settings: RunSettings


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A plan and the names that are part of it already."""

    plan: Plan
    settings: RunSettings
    run_id: str
    workflow_yaml: str
    allocation: "Allocation | None"
    """The Slurm job whose nodes it uses; None on this machine."""
    salloc: tuple[str, ...]
    """How nodes are asked for when it is in no job; empty where none are needed."""
    replan: Callable[[str, "tuple[JobNode, ...]", tuple[str, str]], Plan]
    """The plan with a job's id and nodes, and with the name and address that they know this machine by."""
    earlier: "PriorRun | None" = None
    """The run that goes on."""

    @property
    def succession(self) -> Generation:
        """Which of the run's controllers this one is."""
        if self.earlier is None:
            return Generation()
        return Generation(self.earlier.incarnation + 1, self.earlier.marker or None)


def read_run(options: RunOptions) -> ReadRun:
    """Reads the workflow, and the settings of site and user. Raises: SpecError."""
    layers = settings_layers(options.said, os.environ)
    loaded = load_documents(
        options.files, options.overrides, options.artifacts, options.missable, is_strict=options.is_strict
    )
    found = layers.of(loaded)
    return ReadRun(loaded, found, run_settings(found, options.workspace_dir))


def plan_run(read: ReadRun, options: RunOptions, is_dry: bool) -> PlannedRun:
    """Plans; touches nothing. In a Slurm job this is a rehearsal: no node has been heard of yet.

    Raises: PlanError, UsageError with every finding; AllocationError.
    """
    loaded, settings = read.loaded, read.settings
    name = loaded.document.workflow.name
    earlier = None
    if options.resume is not None:
        from sflow_ctl.runtime.run.resume import earlier_run

        earlier = earlier_run(options.resume)
    run_id = options.run_id or (name if is_dry else make_run_id(name))  # two looks at a plan are equal
    if Path(run_id).name != run_id or run_id in (".", ".."):
        raise UsageError.of(
            "unsafe-name", f'"{run_id}" cannot be the name of a directory', hint="use --run-id NAME"
        )
    uses_slurm = options.nodes is None and any(one.type == "slurm" for one in loaded.document.backends)
    allocation, is_asking = None, False
    if uses_slurm:
        from sflow_ctl.runtime.slurm.allocation import allocation_of, current_allocation

        allocation = (
            current_allocation(os.environ) if options.job_id is None else allocation_of(options.job_id)
        )
        is_asking = allocation is None and not is_dry and shutil.which("salloc") is not None
    directory = settings.output_dir / ("_dry_run" if is_dry else "") / (name if is_dry else run_id)
    context = PlanContext(
        workspace_dir=str(options.workspace_dir),
        output_dir=str(settings.output_dir),
        run_directory=str(directory),
        run_id=run_id,
        nodes_override=options.nodes,
        gpus_per_node_override=options.gpus_per_node,
        max_running=options.max_running,
        path_exists=os.path.exists,
        read_text=lambda path: Path(path).read_text(encoding="utf-8"),
        job_nodes=None if allocation is None else allocation.nodes,
        job_id="0" if allocation is None else allocation.job_id,
        container_engine=read.found.settings.container_engine,
        given=job_fields(read.found) if allocation is None else frozenset(JOB_FIELDS),
        is_strict=options.is_strict,
        allow_placeholder_nodes=is_dry or is_asking,
    )

    def replan(job_id: str, nodes: "tuple[JobNode, ...]", here: tuple[str, str]) -> Plan:
        told = replace(context, job_nodes=nodes, job_id=job_id, here=here)
        return _chosen(build_plan(loaded, told), options)

    plan = _chosen(build_plan(loaded, context), options)
    if not any(node.backend_type == "slurm" for node in plan.nodes):
        allocation, is_asking = None, False
    salloc: tuple[str, ...] = ()
    if is_asking:
        from sflow_ctl.batch.slurm_request import completed, slurm_request
        from sflow_ctl.runtime.slurm.own_allocation import salloc_argv

        request = completed(slurm_request(loaded), options.said, read.found.settings)
        salloc = salloc_argv(request, name, options.extra_args)
    return PlannedRun(plan, settings, run_id, loaded.composed_yaml(), allocation, salloc, replan, earlier)


def _chosen(plan: Plan, options: RunOptions) -> Plan:
    """The part of the plan that was asked for. Raises: PlanError."""
    if options.keep_alive:
        plan = msgspec.structs.replace(plan, keep_alive=True)
    if not options.tasks:
        return plan
    from sflow_ctl.planner.phases.prune import pruned  # most runs are of everything

    return pruned(plan, options.tasks, options.skip_dependencies)


def run_plan(
    planned: PlannedRun,
    options: RunOptions,
    launcher: LocalLauncher,
    open_console: Callable[[Path], Console],
    open_fetch_display: Callable[[], "FetchDisplay"],
    say: Callable[[str], object],
) -> RunEnd:
    """Runs a plan, on local agents or in the Slurm job it was planned for.

    `open_console` makes the console once the run directory exists; `open_fetch_display` what shows how far
    artifacts are, if some must be fetched; `say` tells a person what is waited for. Raises: ArtifactError,
    RunDirectoryError, AllocationError, LaunchError; nothing runs then.
    """
    _check_programs(planned.plan)
    fetched = _fetch(planned.plan, open_fetch_display)  # before there are agents that would wait
    if planned.allocation is not None:
        return _run_in_job(planned, planned.allocation, options, launcher, open_console, fetched, say)
    if planned.salloc:
        from sflow_ctl.runtime.slurm.own_allocation import own_allocation

        launcher.discard_spares()
        with own_allocation(planned.salloc, say) as allocation:
            return _run_in_job(planned, allocation, options, launcher, open_console, fetched, say)
    fleet = local_fleet(planned.plan, planned.run_id, options, planned.settings, launcher, planned.succession)
    return _run(planned, options, fleet, open_console, fetched)


def _run_in_job(
    planned: PlannedRun,
    allocation: "Allocation",
    options: RunOptions,
    launcher: LocalLauncher,
    open_console: Callable[[Path], Console],
    fetched: "list[Progress]",
    say: Callable[[str], object],
) -> RunEnd:
    """First with nodes that nobody has heard of; then, once their agents have called, with what these said."""
    from sflow_ctl.runtime.fleet.addresses import address_towards

    host = os.uname().nodename
    plan = planned.replan(allocation.job_id, allocation.nodes, (host, UNKNOWN_ADDRESS))
    if all(node.backend_type == "slurm" for node in plan.nodes):
        launcher.discard_spares()
    settings = planned.settings
    fleet = job_fleet(plan, planned.run_id, options, settings, allocation, planned.succession, launcher, say)
    try:
        nodes = tuple(replace(node, address=fleet.addresses.get(node.name, "")) for node in allocation.nodes)
        here = (host, address_towards(fleet.addresses.values(), settings.interface))
        plan = planned.replan(allocation.job_id, nodes, here)
        return _run(replace(planned, plan=plan, allocation=allocation), options, fleet, open_console, fetched)
    finally:
        fleet.close()


def _run(
    planned: PlannedRun,
    options: RunOptions,
    fleet: Fleet,
    open_console: Callable[[Path], Console],
    fetched: "list[Progress]",
) -> RunEnd:
    plan, link = planned.plan, fleet.link
    link.signatures = plan.signatures
    directory = RunDirectory(planned.settings.output_dir, planned.run_id)
    facts = run_facts(
        planned.run_id,
        plan.workflow,
        VERSION,
        options.argv,
        planned.succession.incarnation,
        fleet.common.marker,
    )
    behind: dict[str, PriorResult] = {}
    state = RunView(plan)
    changed: list[str] = []
    if planned.earlier is None:
        directory.create(plan, planned.workflow_yaml, facts, fleet.nonce)
    else:
        from sflow_ctl.runtime.run.resume import what_is_behind

        behind, changed = what_is_behind(planned.earlier, plan)
        state.tasks.update(
            {name: planned.earlier.state.tasks[name] for name in behind}  # what has been, for whoever looks
        )
        directory.reopen(plan, planned.workflow_yaml, facts, fleet.nonce)
    directory.write_connection(
        ConnectionFacts(
            run_id=planned.run_id,
            pid=facts.pid,
            host=facts.host,
            client_endpoints=link.client_endpoints,
            controller_key=fleet.keys.controller.public,
            viewer_public=fleet.keys.viewer.public,
            viewer_secret=fleet.keys.viewer.secret,
        )
    )
    console = open_console(directory.path)
    gang_sizes = {task.name: task.world_size for task in plan.tasks if task.world_size > 1}
    output = OutputService(
        log_socket=link.logs,
        client_socket=link.clients,
        run_directory=directory.path,
        node_of_key=link.node_of_key,
        log_path_of=lambda rank: _log_path_of(rank, gang_sizes),
        gang_sizes=gang_sizes,
        console=console,
    )
    log = RunLog(directory.path / "sflow.log", options.log_level)
    first_seq = planned.earlier.next_seq if planned.earlier is not None else 1
    journal = Journal(directory.path / "events.jsonl", facts.incarnation, first_seq)
    log.info(f"run {planned.run_id}: {len(plan.tasks)} tasks on {len(plan.nodes)} nodes")
    for warning in (*plan.warnings, *changed):
        log.warning(warning)
    for item in fetched:
        (log.warning if item.is_warning else log.info)(item.sentence())
    gone_at = planned.allocation.ends_at if planned.allocation is not None else None
    scheduler = Scheduler(
        plan,
        stream_logs=not options.quiet,
        ends_at=None if gone_at is None else gone_at - planned.settings.headroom_s,
        gone_at=gone_at,
        missing=fleet.missing,
        earlier=behind,
    )
    controller = Controller(
        scheduler=scheduler,
        link=link,
        launcher=fleet.launcher,
        output=output,
        journal=journal,
        log=log,
        directory=directory,
        configs=fleet.configs,
        common=fleet.common,
        state=state,
    )
    controller.outputs.values.update(
        {name: before.outputs for name, before in behind.items() if before.outputs is not None}
    )
    gc.freeze()  # what the plan is made of lives as long as the run: no collection need look at it
    output.start()
    slurms = planned.allocation.warnings if planned.allocation is not None else ()
    for warning in (*slurms, *fleet.warnings):
        log.warning(warning)
        output.say(f"warning: {warning}")
    wait_for_directories = directory.make_the_rest(plan)
    try:
        finish = controller.run(fleet.early)
    finally:
        wait_for_directories()
        directory.remove_connection()
        is_closed = output.close(OUTPUT_DRAIN_S)
        controller.note_output()
        journal.close()
        if is_closed:  # otherwise its thread still uses the sockets; the process ends soon enough
            link.close()
    if planned.allocation is not None:
        finish = _with_slurms_reason(finish, planned.allocation.job_id)
    finish = _judged(finish, plan, directory.path)
    status = _EXIT[finish.outcome]
    whole = summary(
        controller.state,
        finish.outcome,
        finish.cause,
        run_id=planned.run_id,
        exit_status=int(status),
        started_wall_ns=facts.started_wall_ns,
        ended_wall_ns=time.time_ns(),
        survivors=finish.survivors,
        refused={**link.refused(), **{kind: count for kind, count in output.counters.items() if count}},
    )
    directory.write("summary.json", summary_json(whole))
    if any(task.outputs for task in plan.tasks):
        from sflow_ctl.results.table import results, results_csv

        table = results_csv(*results(plan, controller.state, controller.outputs.values))
        directory.write("results.csv", table.encode())
    log.info(f"run {finish.outcome}: exit status {int(status)}")
    log.close()
    return RunEnd(status, controller.state, whole, directory.path, controller.outputs.values)


def _with_slurms_reason(finish: FinishRun, job_id: str) -> FinishRun:
    """Where Slurm may have ended the run, by signalling this process, the agents or the tasks, in any order: its word.

    It is asked when everything else is done.
    """
    cause = finish.cause
    may_be_slurms = ("signal", "node_lost", "time_limit")
    if cause is None or (
        finish.outcome is not Outcome.TERMINATED
        and (cause.reason is None or cause.reason.word not in may_be_slurms)
    ):
        return finish
    from sflow_ctl.runtime.slurm.allocation import why_it_ends

    reason = why_it_ends(job_id)
    is_known = cause.reason is not None and cause.reason.word == "time_limit"
    if reason is None or (is_known and reason.word == "time_limit"):
        return finish
    outcome = Outcome.TIMEOUT if reason.word == "time_limit" else Outcome.TERMINATED
    how = cause.text if is_known else "stopped by SIGTERM"
    cause = FirstCause(text=f"{how} ({reason.text})", reason=reason)
    return FinishRun(outcome=outcome, cause=cause, survivors=finish.survivors)


def _judged(finish: FinishRun, plan: Plan, directory: Path) -> FinishRun:
    """A run that completed has failed all the same if the workflow's `success` does not hold."""
    if finish.outcome is not Outcome.COMPLETED or plan.success is None:
        return finish
    from sflow_ctl.runtime.run.success import what_is_missing

    reason = what_is_missing(plan, directory)
    if reason is None:
        return finish
    cause = FirstCause(text=f"the workflow did not do what it must: {reason.text}", reason=reason)
    return FinishRun(outcome=Outcome.FAILED, cause=cause, survivors=finish.survivors)


def _fetch(plan: Plan, open_display: Callable[[], "FetchDisplay"]) -> "list[Progress]":
    """How each artifact came that was not here. Raises: ArtifactError."""
    if not plan.fetches and not plan.directories:
        return []
    from sflow_ctl.runtime.artifacts.fetching import fetch_artifacts  # most runs fetch nothing

    return fetch_artifacts(plan, open_display)


def _log_path_of(rank: RankId, gang_sizes: dict[str, int]) -> str:
    """Raises: IndexError for a rank that its task does not have."""
    task = rank.attempt.task
    if rank.rank >= gang_sizes.get(task, 1):
        raise IndexError(rank.rank)
    return rank_log_path(task, rank.rank) if task in gang_sizes else log_path(task)


def _check_programs(plan: Plan) -> None:
    """Every program a task starts exists here: better said now than by each task. Raises: PlanError."""
    checked: set[tuple[tuple[str, ...], str | None]] = set()
    findings = []
    for task in plan.tasks:
        programs, path = _programs(task), task.env.get("PATH")
        if (programs, path) in checked:
            continue
        checked.add((programs, path))
        if not any(shutil.which(program, path=path) for program in programs):
            names = '" or "'.join(programs)
            findings.append(
                Finding(
                    "program-not-found",
                    f'task "{task.name}" needs the program "{names}", which is not on PATH',
                    where=f"tasks.{task.base}.operator",
                    hint=f"install {programs[0]}, or choose another operator",
                )
            )
    if findings:
        raise PlanError(findings)


def _programs(task: PlannedTask) -> tuple[str, ...]:
    """Any of these starts the task."""
    if task.container is None:
        return task.argv[:1]
    return CONTAINER_ENGINES if task.container.engine == "auto" else (task.container.engine,)
