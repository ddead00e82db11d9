"""`sflow-ctl run`: its options.

Imports as little as it can before it starts the first agent: an interpreter that warms up while this one
imports the rest.
"""

import os
import sys
from pathlib import Path

import click

from sflow_ctl.runtime.launcher import LocalLauncher
from sflow_ctl.runtime.options import RunOptions

_DIRECTORY = click.Path(file_okay=True, path_type=Path)
_POSITIVE = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("workflow", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="Another workflow file."
)
@click.option("-s", "--set", "overrides", multiple=True, metavar="K=V", help="Set a variable.")
@click.option(
    "-a", "--artifact", "artifacts", multiple=True, metavar="NAME=URI", help="Point an artifact elsewhere."
)
@click.option(
    "-M", "--missable-tasks", "missable", multiple=True, metavar="PATTERN", help="Tasks that may be absent."
)
@click.option("--dry-run", is_flag=True, help="Show the graph and who runs where; start nothing.")
@click.option(
    "--workspace-dir", type=_DIRECTORY, default=Path(), help="Where relative paths start. Default: here."
)
@click.option(
    "--output-dir", type=_DIRECTORY, help="Where run directories go. Default: WORKSPACE/sflow_output."
)
@click.option("--nodes", type=_POSITIVE, help="Run on this many local agents.")
@click.option("--gpus-per-node", type=_POSITIVE, help="GPUs that each local agent has, or pretends to have.")
@click.option("--max-running", type=_POSITIVE, help="Tasks that may run at once.")
@click.option("--log-spool", type=_DIRECTORY, help="Agents write logs here, on their node, and stream them.")
@click.option(
    "--run-id", metavar="NAME", help="Name of the run directory. Default: workflow, date, time, random."
)
@click.option(
    "--lost-after", type=_SECONDS, default=30.0, show_default=True, help="Silence that loses a node, seconds."
)
@click.option("--orphan-grace", type=_SECONDS, default=10.0, show_default=True,
              help="Silence after which an agent gives up its controller, seconds.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="No task output on the console, only the end.")
@click.pass_context
def run(
    ctx: click.Context,
    workflow: tuple[Path, ...],
    files: tuple[Path, ...],
    overrides: tuple[str, ...],
    artifacts: tuple[str, ...],
    missable: tuple[str, ...],
    dry_run: bool,
    workspace_dir: Path,
    output_dir: Path | None,
    nodes: int | None,
    gpus_per_node: int | None,
    max_running: int | None,
    log_spool: Path | None,
    run_id: str | None,
    lost_after: float,
    orphan_grace: float,
    quiet: bool,
) -> int:
    """Run a workflow. Without a file: sflow.yaml in this directory."""
    options = RunOptions(
        files=(*workflow, *files) or (Path("sflow.yaml"),),
        overrides=overrides,
        artifacts=artifacts,
        missable=missable,
        workspace_dir=Path(os.path.abspath(workspace_dir)),  # noqa: PTH100 - resolve() would follow links
        output_dir=Path(os.path.abspath(output_dir or workspace_dir / "sflow_output")),  # noqa: PTH100
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        max_running=max_running,
        log_spool=log_spool.absolute() if log_spool else None,
        run_id=run_id,
        lost_after_s=lost_after,
        orphan_grace_s=orphan_grace,
        quiet=quiet,
        argv=tuple(sys.argv),
    )
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
