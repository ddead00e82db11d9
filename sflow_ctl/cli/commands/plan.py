"""`sflow-ctl plan`: what `run --dry-run` shows, for people or for programs."""

from typing import Any

import click

from sflow_ctl.cli.options.workflow_options import run_options, workflow_options


@click.command()
@workflow_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def plan(as_json: bool, **options: Any) -> int:
    """Show the graph, and who would run where with which GPUs. Starts and creates nothing."""
    from sflow_ctl.cli.execution import show_plan

    return show_plan(run_options(**options), as_json=as_json)
