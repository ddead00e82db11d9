"""Options that say a setting, as files of a site or a user do: what they say wins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sflow_ctl.cli.options.paths import absolute

F = TypeVar("F", bound=Callable[..., object])
_PATH = click.Path(path_type=Path)
ENGINES = ("auto", "apptainer", "enroot", "podman", "docker")
"""As the schema has them, which is not imported before the first agent is started."""
_JOB_OPTIONS = (
    click.option("-p", "--partition", help="Of the job, when one is asked for. Default: the backend's."),
    click.option("-A", "--account", help="Of the job, when one is asked for. Default: the backend's."),
    click.option("--qos", help="Of the job, when one is asked for."),
    click.option("--reservation", help="Of the job, when one is asked for."),
)
_RUN_OPTIONS = (
    click.option(
        "--log-spool",
        type=_PATH,
        help="Agents write logs here, on their node, and stream them to the run directory.",
    ),
    click.option(
        "--lost-after", metavar="TIME", help="Silence that loses a node, e.g. 90 or 2m. Default: 30."
    ),
    click.option(
        "--orphan-grace",
        metavar="TIME",
        help="Silence after which an agent gives up its controller. Default: 10, in a Slurm job 60.",
    ),
    click.option(
        "--interface", help="In a Slurm job: the network interface that agents call. Default: all of them."
    ),
    click.option(
        "--join-within",
        metavar="TIME",
        help="In a Slurm job: how long agents may take to report. Default: 60.",
    ),
    click.option(
        "--headroom",
        metavar="TIME",
        help="In a Slurm job: stop so long before the job's time is over. Default: 60.",
    ),
    click.option(
        "--launch-flag",
        "launch_flags",
        multiple=True,
        metavar="--KEY=VALUE",
        help="In a Slurm job: another option of the one srun that starts agents; repeatable.",
    ),
    click.option(
        "--container-engine",
        type=click.Choice(ENGINES),
        help="Of container operators that name none. Default: auto.",
    ),
)
NAMES = (
    *("partition", "account", "qos", "reservation", "launch_flags", "interface", "container_engine"),
    *("log_spool", "join_within", "headroom", "lost_after", "orphan_grace"),
)
"""What options are called as settings; `output_dir`, which more commands have, aside."""


def job_setting_options(command: F) -> F:
    """Adds those about jobs that are asked for."""
    return _with(command, _JOB_OPTIONS)


def run_setting_options(command: F) -> F:
    """Adds those about runs."""
    return _with(command, _RUN_OPTIONS)


def cli_settings(options: dict[str, Any], output_dir: Path | None) -> dict[str, Any]:
    """Takes the settings out of a command's options: those that were given."""
    said: dict[str, Any] = {}
    for name in NAMES:
        value = options.pop(name, None)
        if value not in (None, ()):
            said[name] = list(value) if isinstance(value, tuple) else value
    for name, path in (("output_dir", output_dir), ("log_spool", said.get("log_spool"))):
        if path is not None:
            said[name] = str(absolute(path))
    return said


def _with(command: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        command = option(command)
    return command
