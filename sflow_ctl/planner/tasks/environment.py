"""The environment of a task beside what it inherits: the format's table 11.4, reserved names first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sflow_ctl.plan.assignment import gpu_environment, node_variables
from sflow_ctl.plan.log_paths import own_variables
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.plan.parts.cells import Cell
from sflow_ctl.planner.phases.graph import Replica
from sflow_ctl.planner.phases.variables import environment_text

RESERVED_PREFIX = "SFLOW_"
_OWN = own_variables("", 0, "").keys() | Cell(index=0, id="", label="").variables.keys()
MAX_LISTED_NODES = 256
"""Of a larger backend the nodes are not listed: every task would carry the list."""


def task_environment(
    *,
    shared: Mapping[str, str],
    nodes: Sequence[PlannedNode],
    own: Mapping[str, Any],
    replica: Replica,
    gpus: Sequence[int] | None,
    run_directory: str,
    backend: Sequence[PlannedNode],
    job_id: str | None,
) -> dict[str, str]:
    """Return the variables of one concrete task.

    `shared` are those of all tasks of the run, `own` the task's variables, `backend` all nodes of its backend, and `job_id` is
    the Slurm job of those.
    """
    env = dict(shared)
    env.update(
        (name, environment_text(value)) for name, value in own.items() if not name.startswith(RESERVED_PREFIX)
    )
    env.update((name, environment_text(value)) for name, value in replica.sweep)
    if replica.cell is not None:
        env.update(replica.cell.cell.variables)
    env.update(node_variables(nodes))
    env.update(gpu_environment(gpus or ()))
    env["SFLOW_BACKEND_NUM_NODES"] = str(len(backend))
    if len(backend) <= MAX_LISTED_NODES:
        env["SFLOW_BACKEND_NODELIST"] = ",".join(node.name for node in backend)
    if job_id is not None:
        env["SFLOW_BACKEND_JOB_ID"] = job_id
    return env | own_variables(replica.name, replica.index, run_directory)


def without_own(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that copies of a task share."""
    return {name: value for name, value in env.items() if name not in _OWN}


def reserved(names: Iterable[str]) -> Iterator[str]:
    """Yield the names that do not reach the environment of tasks."""
    return (name for name in names if name.startswith(RESERVED_PREFIX))


def shared_environment(
    variables: Mapping[str, Any], artifacts: Mapping[str, str], fixed: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of all tasks; reserved names replace users' variables."""
    env = {name: path for name, path in artifacts.items() if not name.startswith(RESERVED_PREFIX)}
    for name, value in variables.items():
        if not name.startswith(RESERVED_PREFIX):
            env[name] = environment_text(value)
    env.update(fixed)
    return env
