"""The Python interface: builds and starts workflows, and looks at and changes runs, live or ended.

    from sflow_ctl.api import Run, Workflow

    wf = Workflow("hello")
    wf.task("greet", script="echo hello", outputs={"pattern": "hello"})
    run = wf.run()
    print(run.status().outcome, run.logs("greet"))

All classes and functions here are stable, as the fields of the format and of `--json` are. pydantic is imported by this package
alone. Called by users' programs and notebooks; nothing of ours imports it.
"""

from protocol.errors import FleetError
from sflow_ctl.api.models import Instance, RunEvent, RunState, TaskLine
from sflow_ctl.api.run import Run, runs
from sflow_ctl.api.starting import StartError
from sflow_ctl.api.workflow import Job, Task, Workflow

__all__ = [
    "FleetError",
    "Instance",
    "Job",
    "Run",
    "RunEvent",
    "RunState",
    "StartError",
    "Task",
    "TaskLine",
    "Workflow",
    "runs",
]
