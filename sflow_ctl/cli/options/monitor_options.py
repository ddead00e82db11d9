"""The options that add monitors to a run: for `run` and `plan`, and passed on by `batch`."""

import re

import click

from sflow_ctl.cli.options.sections import section


def _names(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a repeatable option, which commas and blanks may separate."""
    return tuple(dict.fromkeys(name for text in given for name in re.split(r"[\s,]+", text) if name))


monitor_options = section(
    "Monitors",
    click.option(
        "--enable-workflow-monitor",
        is_flag=True,
        help="Measure the CPU, memory, disk, network and GPUs of all nodes; a monitor of the file is kept.",
    ),
    click.option(
        "--enable-task-monitor",
        multiple=True,
        metavar="NAMES",
        callback=_names,
        help="Measure the nodes of these tasks while they run; names separated by commas, repeatable.",
    ),
)
