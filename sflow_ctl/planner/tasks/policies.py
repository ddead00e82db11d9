"""What the end of a task means for it and for the run: restarts, failures that count, tasks for the end."""

from collections.abc import Callable
from typing import Any

from sflow_ctl.format import schema
from sflow_ctl.plan.model import FinallyWhen, OnFailure, Restart
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_flag, as_int, as_seconds

FINALLY_TIMEOUT_S = 60.0
"""Of a task that runs at the end and says nothing of time: a run must end."""


def policies(
    task: schema.Task, workflow: schema.Workflow, replicas: int, value: Callable[[Any], Any]
) -> dict[str, Any]:
    """Fields of the planned task. Raises: UnplannableError, NumberError."""
    return {
        "kind": task.kind,
        "is_main": as_flag(value(task.main)),
        "on_failure": _on_failure(task, workflow, value),
        "restart": _restart(task, value),
        "is_log_direct": task.log == "direct",
        "success_exit_codes": _exit_codes(task, value),
        "finally_when": _finally_when(task),
        "min_ready": _min_ready(task, replicas, value),
    }


def _on_failure(task: schema.Task, workflow: schema.Workflow, value: Callable[[Any], Any]) -> OnFailure:
    return (task.on_failure or workflow.on_failure) if as_flag(value(task.critical)) else "continue"


def _restart(task: schema.Task, value: Callable[[Any], Any]) -> Restart | None:
    if task.restart is None:
        return None
    restart = schema.Restart(policy=task.restart) if isinstance(task.restart, str) else task.restart
    return Restart(
        policy=restart.policy,
        count=as_int(value(restart.max), 0),
        backoff_s=as_seconds(value(restart.backoff)),
        window_s=None if restart.window is None else as_seconds(value(restart.window)),
        restarts_dependents=restart.dependents == "restart",
    )


def _exit_codes(task: schema.Task, value: Callable[[Any], Any]) -> tuple[int, ...]:
    codes = {0}
    for index, written in enumerate(task.success_exit_codes):
        code = as_int(value(written), 0)
        if code > 255:
            what = f'task "{task.name}": exit status {code} does not exist, the highest is 255'
            raise UnplannableError("wrong-value", what, path=("success_exit_codes", index))
        codes.add(code)
    return tuple(sorted(codes))


def _finally_when(task: schema.Task) -> FinallyWhen | None:
    if task.finally_ is True:
        return "after_stop"
    return task.finally_ or None


def _min_ready(task: schema.Task, replicas: int, value: Callable[[Any], Any]) -> int | None:
    written = task.replicas.min_ready if task.replicas is not None else None
    if written is None:
        return None
    count = as_int(value(written), 1)
    if count > replicas:
        what = f'task "{task.name}": min_ready is {count}, and there are {replicas} replicas'
        raise UnplannableError("wrong-value", what, path=("replicas", "min_ready"))
    return count
