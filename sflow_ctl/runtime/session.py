"""One `sflow-ctl run` from options to its end: plan, run directory, keys, sockets, controller, summary.

Puts the parts together and takes them apart again on every path; decides nothing about tasks.
"""

import gc
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import ExitStatus, Finding, PlanError, UsageError
from protocol.ids import RankId
from protocol.messages import AgentConfig
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import Outcome
from sflow_ctl.core.tasks import log_path
from sflow_ctl.planner.build import PlanContext, build_plan
from sflow_ctl.planner.plan import Plan, PlannedTask
from sflow_ctl.report import RunState, Summary, summary, summary_json
from sflow_ctl.runtime.console_feed import Console
from sflow_ctl.runtime.controller import Controller
from sflow_ctl.runtime.journal import Journal
from sflow_ctl.runtime.keys import RunKeys
from sflow_ctl.runtime.launcher import LocalLauncher
from sflow_ctl.runtime.link import FleetLink, LinkTimes
from sflow_ctl.runtime.options import RunOptions
from sflow_ctl.runtime.output import OutputService
from sflow_ctl.runtime.run_directory import ConnectionFacts, RunDirectory, make_run_id, run_facts
from sflow_ctl.runtime.run_log import RunLog
from sflow_ctl.spec.loader import load_documents
from sflow_ctl.spec.schema import CONTAINER_ENGINES

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
    state: RunState
    summary: Summary
    directory: Path


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A plan and the names that are part of it already."""

    plan: Plan
    run_id: str
    workflow_yaml: str


def plan_run(options: RunOptions, is_dry: bool) -> PlannedRun:
    """Reads and plans; touches nothing. Raises: SpecError, PlanError, UsageError with every finding."""
    loaded = load_documents(options.files, options.overrides, options.artifacts, options.missable)
    name = loaded.document.workflow.name
    run_id = options.run_id or make_run_id(name)
    if Path(run_id).name != run_id or run_id in (".", ".."):
        raise UsageError.of(
            "unsafe-name", f'"{run_id}" cannot be the name of a directory', hint="use --run-id NAME"
        )
    directory = options.output_dir / ("_dry_run" if is_dry else "") / (name if is_dry else run_id)
    context = PlanContext(
        workspace_dir=str(options.workspace_dir),
        output_dir=str(options.output_dir),
        run_directory=str(directory),
        run_id=run_id,
        nodes_override=options.nodes,
        gpus_per_node_override=options.gpus_per_node,
        max_running=options.max_running,
        path_exists=os.path.exists,
        allow_placeholder_nodes=is_dry,
    )
    plan = build_plan(loaded, context)
    return PlannedRun(plan, run_id, loaded.composed_yaml())


def run_plan(
    planned: PlannedRun, options: RunOptions, launcher: LocalLauncher, open_console: Callable[[Path], Console]
) -> RunEnd:
    """Runs a plan on local agents. Raises: RunDirectoryError, LaunchError; nothing runs then.

    `open_console` makes the console once the run directory exists.
    """
    plan = planned.plan
    _check_programs(plan)
    directory = RunDirectory(options.output_dir, planned.run_id)
    keys = RunKeys.make(len(plan.nodes))
    nonce = os.urandom(16).hex()
    facts = run_facts(planned.run_id, plan.workflow, package_version(), options.argv)
    directory.create(plan, planned.workflow_yaml, facts, nonce)
    times = LinkTimes(lost_after_s=options.lost_after_s, orphan_grace_s=options.orphan_grace_s)
    link = FleetLink(keys, ("127.0.0.1",), facts.incarnation, times, time.monotonic())
    directory.write_connection(
        ConnectionFacts(
            run_id=planned.run_id,
            pid=facts.pid,
            host=facts.host,
            client_endpoints=link.client_endpoints,
            controller_key=keys.controller.public,
            viewer_public=keys.viewer.public,
            viewer_secret=keys.viewer.secret,
        )
    )
    console = open_console(directory.path)
    output = OutputService(
        log_socket=link.logs,
        client_socket=link.clients,
        run_directory=directory.path,
        node_of_key=link.node_of_key,
        log_path_of=_log_path_of,
        console=console,
    )
    log = RunLog(directory.path / "sflow.log")
    journal = Journal(directory.path / "events.jsonl", facts.incarnation)
    log.info(f"run {planned.run_id}: {len(plan.tasks)} tasks on {len(plan.nodes)} nodes")
    for warning in plan.warnings:
        log.warning(warning)
    scheduler = Scheduler(plan, stream_logs=not options.quiet)
    controller = Controller(
        scheduler=scheduler,
        link=link,
        launcher=launcher,
        output=output,
        journal=journal,
        log=log,
        directory=directory,
        configs=_agent_configs(planned, options, keys, link, directory.path, nonce),
    )
    gc.freeze()  # what the plan is made of lives as long as the run: no collection need look at it
    output.start()
    wait_for_directories = directory.make_the_rest(plan)
    try:
        finish = controller.run()
    finally:
        wait_for_directories()
        directory.remove_connection()
        is_closed = output.close(OUTPUT_DRAIN_S)
        controller.note_output()
        journal.close()
        if is_closed:  # otherwise its thread still uses the sockets; the process ends soon enough
            link.close()
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
    log.info(f"run {finish.outcome}: exit status {int(status)}")
    log.close()
    return RunEnd(status, controller.state, whole, directory.path)


def package_version() -> str:
    """The installed version, or "unknown" when run from a source tree that is not installed."""
    from importlib.metadata import (
        PackageNotFoundError,
        version,
    )  # a tenth of a first task's time: only when asked

    try:
        return version("sflow-ctl")
    except PackageNotFoundError:
        return "unknown"


def _agent_configs(
    planned: PlannedRun, options: RunOptions, keys: RunKeys, link: FleetLink, directory: Path, nonce: str
) -> list[AgentConfig]:
    plan = planned.plan
    marker = f"{planned.run_id}-{os.urandom(4).hex()}"
    has_gpus = Path("/dev/nvidiactl").exists() and len(plan.nodes) == 1
    return [
        AgentConfig(
            run_id=planned.run_id,
            node=node.index,
            node_name=node.name,
            control_endpoints=link.control_endpoints,
            log_endpoints=link.log_endpoints,
            controller_key=keys.controller.public,
            public_key=pair.public,
            secret_key=pair.secret,
            marker=marker,
            run_directory=str(directory),
            nonce=nonce,
            spool_directory=str(options.log_spool) if options.log_spool else None,
            simulated_gpus=0 if has_gpus else node.gpus or 0,
            orphan_grace_s=options.orphan_grace_s,
        )
        for node, pair in zip(plan.nodes, keys.agents, strict=True)
    ]


def _log_path_of(rank: RankId) -> str:
    return log_path(rank.attempt.task)


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
