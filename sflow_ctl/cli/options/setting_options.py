"""Options that override a setting of site, user and workflow files."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from sflow_ctl.cli.options.sections import section

F = TypeVar("F", bound=Callable[..., object])
_PATH = click.Path(path_type=Path)
ENGINES = ("auto", "apptainer", "enroot", "podman", "docker")
"""The same as in the schema, which is not imported before the first agent has been started."""
_JOB_OPTIONS = section(
    "Slurm job request",
    click.option("-p", "--partition", help="Partition of the job. Default: the backend's."),
    click.option("-A", "--account", help="Account of the job. Default: the backend's."),
    click.option("--qos", help="Quality of service of the job."),
    click.option("--reservation", help="Reservation that the job uses."),
)
_JOB_RUN_OPTIONS = section(
    "Inside a Slurm job",
    click.option(
        "--interface", help="Network interface on which agents reach the controller. Default: any of them."
    ),
    click.option(
        "--join-within",
        metavar="TIME",
        help="How long to wait for all agents to connect. Default: 60 s.",
    ),
    click.option(
        "--headroom",
        metavar="TIME",
        help="Stop this long before the job's time limit, so that cleanup tasks can run. Default: 60 s.",
    ),
    click.option(
        "--launch-flag",
        "launch_flags",
        multiple=True,
        metavar="--KEY=VALUE",
        help="Add an option to the one srun that starts the agents; repeatable.",
    ),
)
_AGENT_OPTIONS = section(
    "Agents",
    click.option(
        "--log-spool",
        type=_PATH,
        help="Directory on each node where agents write logs before they send them to the run directory.",
    ),
    click.option(
        "--lost-after",
        metavar="TIME",
        help="Treat a node as lost after this long without a heartbeat, e.g. 90 or 2m. Default: 30 s.",
    ),
    click.option(
        "--orphan-grace",
        metavar="TIME",
        help="How long agents wait for a vanished controller before they stop their tasks. "
        "Default: 10 s, in a Slurm job 60 s.",
    ),
    click.option(
        "--agent-restarts",
        type=click.IntRange(0, 100),
        metavar="N",
        help="Restart a killed agent on its node up to N times within 10 minutes; 0 treats the node as lost. Default: 3.",
    ),
    click.option(
        "--container-engine",
        type=click.Choice(ENGINES),
        help="Engine of container operators that do not name one. Default: auto.",
    ),
)
_REPORT_OPTION = section(
    "Output",
    click.option(
        "--report/--no-report",
        default=None,
        help="Write report.html into the run directory at the end. Default: yes.",
    ),
)


def job_setting_options(command: F) -> F:
    """Add the options about the Slurm job to request."""
    return _JOB_OPTIONS(command)


def run_setting_options(command: F) -> F:
    """Add the options about agents, about running inside a Slurm job, and about the report."""
    return _AGENT_OPTIONS(_JOB_RUN_OPTIONS(_REPORT_OPTION(command)))
