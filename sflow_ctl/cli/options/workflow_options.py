"""The options that every command has which reads workflow files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.cli.options.setting_options import cli_settings
from sflow_ctl.runtime.run.options import RunOptions

F = TypeVar("F", bound=Callable[..., object])
_PATH = click.Path(path_type=Path)
_POSITIVE = click.IntRange(min=1)
_FILE_OPTIONS = (
    click.argument("workflow", nargs=-1, type=_PATH),
    click.option("-f", "--file", "files", multiple=True, type=_PATH, help="Another workflow file."),
    click.option("-s", "--set", "overrides", multiple=True, metavar="K=V", help="Set a variable."),
    click.option(
        "-a",
        "--artifact",
        "artifacts",
        multiple=True,
        metavar="NAME=URI",
        help="Point an artifact elsewhere.",
    ),
    click.option(
        "-M",
        "--missable-tasks",
        "missable",
        multiple=True,
        metavar="PATTERN",
        help="Tasks that may be absent.",
    ),
    click.option(
        "--workspace-dir", type=_PATH, default=Path(), help="Where relative paths start. Default: here."
    ),
    click.option(
        "--output-dir",
        type=_PATH,
        help="Where run directories go. Default: your settings', else WORKSPACE/sflow_output.",
    ),
    click.option(
        "--compat",
        type=click.Choice(["strict"]),
        help="What the reference does, also where that is a trap: to find out which difference matters.",
    ),
)
_FLEET_OPTIONS = (
    click.option("--nodes", type=_POSITIVE, help="Run on this many local agents."),
    click.option(
        "--gpus-per-node", type=_POSITIVE, help="GPUs that each local agent has, or pretends to have."
    ),
)


def workflow_options(command: F) -> F:
    """Adds them, in this order."""
    for option in reversed((*_FILE_OPTIONS, *_FLEET_OPTIONS)):
        command = option(command)
    return command


def file_options(command: F) -> F:
    """Adds those about files and directories, for commands that have no fleet."""
    for option in reversed(_FILE_OPTIONS):
        command = option(command)
    return command


def run_options(
    *,
    workflow: tuple[Path, ...],
    files: tuple[Path, ...],
    workspace_dir: Path,
    output_dir: Path | None,
    compat: str | None,
    **others: Any,
) -> RunOptions:
    """The options as the runtime takes them: files in order, directories absolute. `others` go through as they are."""
    return RunOptions.of(
        files=(*workflow, *files) or (Path("sflow.yaml"),),
        are_files_given=bool(workflow or files),
        workspace_dir=absolute(workspace_dir),
        settings=cli_settings(others, output_dir),
        is_strict=compat == "strict",
        **others,
    )
