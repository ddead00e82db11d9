"""The options of every command that reads workflow files. `given.py` makes `RunOptions` of them."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from sflow_ctl.cli.options.given import COMPAT
from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.cli.options.sections import section

F = TypeVar("F", bound=Callable[..., object])
_PATH = click.Path(path_type=Path)
_POSITIVE = click.IntRange(min=1)
_INPUTS = "sflow_ctl.inputs"


def _note_inputs(context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> None:
    context.meta[_INPUTS] = given


def _with_inputs(context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return what `--set` was given, and what `--input` was: it is short for `--set inputs.NAME=VALUE`."""
    return (*given, *map(input_override, context.meta.get(_INPUTS, ())))


def input_override(given: str) -> str:
    """Return what `--input NAME=VALUE` is for `--set`; a file that it names is named absolutely."""
    name, _, value = given.partition("=")
    if value.startswith("@") and not value.startswith("@@"):
        value = f"@{absolute(Path(value[1:]))}"
    return f"inputs.{name}={value}" if "=" in given else f"inputs.{given}"


_FILES = section(
    "Workflow",
    click.option(
        "-f", "--file", "files", multiple=True, type=_PATH, help="Merge in another workflow file; repeatable."
    ),
    click.option(
        "-s",
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_with_inputs,
        help="Override a variable; repeatable.",
    ),
    click.option(
        "--input",
        multiple=True,
        metavar="NAME=VALUE",
        is_eager=True,
        expose_value=False,
        callback=_note_inputs,
        help="Give an input of the workflow its value, or that of a file: NAME=@FILE; repeatable.",
    ),
    click.option(
        "-a",
        "--artifact",
        "artifacts",
        multiple=True,
        metavar="NAME=URI",
        help="Override an artifact's URI; repeatable.",
    ),
    click.option(
        "-M",
        "--missable-tasks",
        "missable",
        multiple=True,
        metavar="PATTERN",
        help="Ignore references to tasks that match PATTERN if they do not exist; repeatable.",
    ),
    click.option(
        "--compat",
        type=click.Choice(list(COMPAT)),
        help="Reproduce the behaviour of NVIDIA sflow 0.3.1 (strict) or 0.2, including its quirks, to find differences.",
    ),
    click.option(
        "--strict",
        "refuses_ignored",
        is_flag=True,
        help="Refuse keys that have no effect instead of warning; with `validate`, every warning.",
    ),
)
_PLACES = section(
    "Directories",
    click.option(
        "--workspace-dir",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        default=Path(),
        help="Base of relative paths in the workflow, and the tasks' working directory. "
        "Default: the current directory.",
    ),
    click.option(
        "--output-dir",
        type=_PATH,
        help="Parent of run directories. Default: your settings', else WORKSPACE/sflow_output.",
    ),
)
_HOSTS = section(
    "Nodes and GPUs",
    click.option(
        "--include-nodes",
        multiple=True,
        metavar="HOSTS",
        help="Use only these hosts, separated by commas or blanks; repeatable.",
    ),
    click.option(
        "--exclude-nodes",
        multiple=True,
        metavar="HOSTS",
        help="Do not use these hosts, separated by commas or blanks; repeatable.",
    ),
)
_FLEET_OPTIONS = section(
    "Nodes and GPUs",
    click.option(
        "--nodes", type=_POSITIVE, metavar="N", help="Run N agents on this machine, even inside a Slurm job."
    ),
    click.option(
        "--gpus-per-node",
        type=_POSITIVE,
        metavar="N",
        help="GPUs of each local agent; simulated where this machine has none.",
    ),
    click.option(
        "--simulate-gpus",
        is_flag=True,
        envvar="SFLOW_SIMULATE_GPUS",
        help="Simulate the workflow's GPUs on local agents, even if this machine has GPUs.",
    ),
)


skip_artifact_check = section(
    "Run",
    click.option(
        "--skip-artifact-check",
        is_flag=True,
        help="Start although paths of artifacts are missing, here or on nodes.",
    ),
)
task_log_options = section(
    "Output",
    click.option(
        "--offload-task-logs/--no-offload-task-logs",
        expose_value=False,
        default=None,
        help="Accepted as in sflow, without effect: tasks always write their logs themselves.",
    ),
)


def workflow_options(command: F) -> F:
    """Add the options about files, directories and local agents."""
    return file_options(_FLEET_OPTIONS(_HOSTS(command)))


def again_options(command: F) -> F:
    """Add the same options for commands that have their workflow from an earlier run."""
    return _FILES(_PLACES(_FLEET_OPTIONS(_HOSTS(command))))


def file_options(command: F) -> F:
    """Add the options about files and directories, for commands that start no agents."""
    return click.argument("workflow", nargs=-1, type=_PATH)(_FILES(_PLACES(command)))


def host_options(command: F) -> F:
    """Add the options about hosts, for commands that ask for nodes."""
    return _HOSTS(command)


only_option = click.option(
    "--only",
    multiple=True,
    metavar="TASK",
    help='Print only the output of this task, or of tasks that match a pattern such as "bench_*"; repeatable.',
)
"""Add `--only`, which mutes all other tasks."""
row_option = click.option(
    "--row",
    "rows",
    multiple=True,
    metavar="SEL",
    help="Only these rows, e.g. 3 or 1,3 or 1:4 or 1:6:2; repeatable.",
)
"""Add `--row`, which selects rows of a sheet; several selections are joined."""
