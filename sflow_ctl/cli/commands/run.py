"""`sflow-ctl run`: its options.

Imports as little as it can before it starts the first agent: an interpreter that warms up while this one
imports the rest.
"""

import os
import sys
from typing import Any

import click

from sflow_ctl.cli.options.setting_options import job_setting_options, run_setting_options
from sflow_ctl.cli.options.workflow_options import run_options, workflow_options
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.record.run_log import LEVELS

_POSITIVE = click.IntRange(min=1)


@click.command()
@workflow_options
@job_setting_options
@run_setting_options
@click.option("--dry-run", is_flag=True, help="Show the graph and who runs where; start nothing.")
@click.option("--max-running", type=_POSITIVE, help="Tasks that may run at once.")
@click.option(
    "--run-id", metavar="NAME", help="Name of the run directory. Default: workflow, date, time, random."
)
@click.option(
    "--resume",
    metavar="RUN",
    help="Go on with a run that did not complete, in its directory: what has completed stays.",
)
@click.option(
    "--force", is_flag=True, help="With --resume: resume a run even if it may still be running elsewhere."
)
@click.option(
    "--simulate-gpus",
    is_flag=True,
    envvar="SFLOW_SIMULATE_GPUS",
    help="Local agents only pretend to have the GPUs of the file, although this machine has some.",
)
@click.option(
    "--require-idle-gpus",
    is_flag=True,
    help="Do not begin while others use a GPU of the run. Without it: a warning.",
)
@click.option("--jobid", "job_id", metavar="ID", help="Use the nodes of this running Slurm job.")
@click.option(
    "-e", "--extra-args", multiple=True, metavar="ARG", help="For salloc, when nodes must be asked for."
)
@click.option("-v", "--verbose", is_flag=True, expose_value=False, hidden=True)
@click.option(
    "--min-nodes", type=_POSITIVE, help="In a Slurm job: go on with so many nodes when others do not report."
)
@click.option(
    "--no-kill", is_flag=True, help="In a Slurm job: go on when a node is lost, where the workflow allows it."
)
@click.option(
    "--keep-alive", is_flag=True, help="Services that are ready keep the run going until it is stopped."
)
@click.option(
    "-t",
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME",
    help="Only this task and what it needs; repeatable.",
)
@click.option("--skip-dependencies", is_flag=True, help="With --task: nothing else, whatever it waits for.")
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="What sflow.log notes.",
)
@click.option(
    "-q", "--quiet", is_flag=True, help="No output of tasks on the console, only what becomes of them."
)
def run(dry_run: bool, resume: str | None, **others: Any) -> int:
    """Run a workflow. Without a file: sflow.yaml in this directory."""
    if others["skip_dependencies"] and not others["tasks"]:
        from protocol.errors import UsageError

        raise UsageError.of("options", "--skip-dependencies is about --task", hint="name tasks with --task")
    options = run_options(argv=tuple(sys.argv), **others)
    if resume is not None or "SLURM_RESTART_COUNT" in os.environ:
        from sflow_ctl.cli.resuming import resumed  # few runs are resumed

        options = resumed(options, resume)
    if dry_run:
        from sflow_ctl.cli.execution import show_plan

        return show_plan(options)
    launcher = LocalLauncher()
    launcher.prestart()
    try:
        from sflow_ctl.cli.execution import execute

        return execute(options, launcher)
    finally:
        launcher.discard_spares()
