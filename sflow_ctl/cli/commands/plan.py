"""`sflow-ctl plan`: the plan that `run --dry-run` prints, as text or as JSON."""

from typing import Any

import click

from sflow_ctl.cli.options.given import run_options
from sflow_ctl.cli.options.monitor_options import monitor_options
from sflow_ctl.cli.options.sections import SectionedCommand
from sflow_ctl.cli.options.workflow_options import workflow_options


@click.command(cls=SectionedCommand)
@workflow_options
@click.option(
    "--ignore-backend",
    "ignored_backends",
    multiple=True,
    metavar="NAME",
    help="Leave out the tasks of this backend; repeatable.",
)
@monitor_options
@click.option(
    "--reuse",
    multiple=True,
    metavar="RUN[:TASKS]",
    help="Say which results `run --reuse` would take over, and why not the others; repeatable.",
)
@click.option("--reuse-anyway", multiple=True, metavar="TASKS", help="As in `run`; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--probe",
    is_flag=True,
    help="Start agents on the nodes as well, and report what they find there, as `doctor` does; no task is started.",
)
def plan(as_json: bool, probe: bool, **options: Any) -> int:
    """Check a workflow and print its plan: the graph, and the node and GPUs of each task. Starts no task.

    With --probe the exit status is that of `doctor`: 1 if a node is not fit, 3 if an agent does not connect.
    """
    from sflow_ctl.cli.execution import show_plan

    return show_plan(run_options(**options), as_json=as_json, probes=probe)
