"""Checks before anything is started: programs that tasks need, artifacts to fetch, GPUs in use; the log's first lines.

Called by `workflow.py`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from protocol.errors import Finding, PlanError
from protocol.messages.rank_spec import JOB_PROGRAM
from protocol.text.counted import counted
from sflow_ctl.format.schema import CONTAINER_ENGINES
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.runtime.files.programs import is_installed
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.run.options import FleetOptions

if TYPE_CHECKING:
    from sflow_ctl.runtime.artifacts.fetching import FetchDisplay
    from sflow_ctl.runtime.artifacts.transfer import Progress


def check_programs(plan: Plan) -> None:
    """Check once that every program a task starts with exists here.

    Raises: PlanError naming all missing ones.
    """
    checked: set[tuple[tuple[str, ...], str | None]] = set()
    findings = []
    for task in plan.tasks:
        programs, path = _programs(task), task.env.get("PATH")
        if (programs, path) in checked:
            continue
        checked.add((programs, path))
        if not any(is_installed(program, path) for program in programs):
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


def fetch_missing_artifacts(plan: Plan, open_display: Callable[[], "FetchDisplay"]) -> "list[Progress]":
    """Fetch the artifacts that are not here; return how each one arrived. Raises: ArtifactError."""
    if not plan.fetches and not plan.directories:
        return []
    from sflow_ctl.runtime.artifacts.fetching import fetch_artifacts  # most runs fetch nothing

    return fetch_artifacts(plan, open_display)


def log_beginning(
    log: RunLog, run_id: str, plan: Plan, resumed: Sequence[str], fetched: "Sequence[Progress]"
) -> None:
    """Log what is known before the first task starts; `resumed` are lines about an earlier controller."""
    log.info(f"run {run_id}: {counted(len(plan.tasks), 'task')} on {counted(len(plan.nodes), 'node')}")
    for line in resumed:
        log.info(line)
    for warning in [one.line() for one in plan.warnings]:
        log.warning(warning)
    for item in fetched:
        (log.warning if item.is_warning else log.info)(item.sentence())


def await_gpus(plan: Plan, options: FleetOptions, say: Callable[[str], object]) -> None:
    """Wait for this machine's GPUs if the user or the file wants that. Raises: LaunchError if they stay in use."""
    if options.wait_for_gpus is None and all(node.wait_for_gpus is None for node in plan.nodes):
        return
    from sflow_ctl.runtime.idle_gpus import wait_for_gpus  # few runs wait

    wait_for_gpus(plan, options, say)


def _programs(task: PlannedTask) -> tuple[str, ...]:
    """Return the programs that can start the task; any one of them is enough."""
    if task.argv[:1] == (JOB_PROGRAM,):
        return ("sbatch",) if task.operator_kind == "slurm_job" else task.argv[1:2]
    if task.container is None:
        return task.argv[:1]
    return CONTAINER_ENGINES if task.container.engine == "auto" else (task.container.engine,)
