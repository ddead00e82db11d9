"""The Python interface: builds and starts workflows, and looks at and changes runs, live or ended.

    from sflow_ctl.api import Run, Workflow, task

    wf = Workflow("hello")
    wf.task("greet", script="echo hello", outputs={"pattern": "hello"})
    run = wf.run()
    print(run.status().outcome, run.logs("greet"))

All classes and functions here are stable, as the fields of the format and of `--json` are. pydantic is imported by this package
alone. Called by users' programs and notebooks; nothing of ours imports it.

Names are imported when they are used: modules with `@task` functions are imported by each of their tasks, which need no more.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocol.errors import FleetError
    from sflow_ctl.api.building import Task, TaskGroup, WorkflowBlock
    from sflow_ctl.api.expressions import Expression, TaskOutput, expression, last
    from sflow_ctl.api.functions import TaskFunction, task
    from sflow_ctl.api.models import Instance, RunEvent, RunState, TaskLine
    from sflow_ctl.api.run import Run, runs
    from sflow_ctl.api.starting import StartError
    from sflow_ctl.api.workflow import Job, Workflow
    from sflow_ctl.planner.launch.python.python_shim import FatalError, TransientError, progress

_HOMES = {
    "WorkflowBlock": "sflow_ctl.api.building",
    "Expression": "sflow_ctl.api.expressions",
    "FatalError": "sflow_ctl.planner.launch.python.python_shim",
    "FleetError": "protocol.errors",
    "Instance": "sflow_ctl.api.models",
    "Job": "sflow_ctl.api.workflow",
    "Run": "sflow_ctl.api.run",
    "RunEvent": "sflow_ctl.api.models",
    "RunState": "sflow_ctl.api.models",
    "StartError": "sflow_ctl.api.starting",
    "Task": "sflow_ctl.api.building",
    "TaskFunction": "sflow_ctl.api.functions",
    "TaskGroup": "sflow_ctl.api.building",
    "TaskLine": "sflow_ctl.api.models",
    "TaskOutput": "sflow_ctl.api.expressions",
    "TransientError": "sflow_ctl.planner.launch.python.python_shim",
    "Workflow": "sflow_ctl.api.workflow",
    "expression": "sflow_ctl.api.expressions",
    "last": "sflow_ctl.api.expressions",
    "progress": "sflow_ctl.planner.launch.python.python_shim",
    "runs": "sflow_ctl.api.run",
    "task": "sflow_ctl.api.functions",
}

__all__ = [
    "Expression",
    "FatalError",
    "FleetError",
    "Instance",
    "Job",
    "Run",
    "RunEvent",
    "RunState",
    "StartError",
    "Task",
    "TaskFunction",
    "TaskGroup",
    "TaskLine",
    "TaskOutput",
    "TransientError",
    "Workflow",
    "WorkflowBlock",
    "expression",
    "last",
    "progress",
    "runs",
    "task",
]


def __getattr__(name: str) -> Any:
    """Import a name of this package when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found
