"""`sflow-ctl pause` and `unpause`: whether anything new starts in a live run."""

from pathlib import Path

import click

from protocol.errors import ExitStatus
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.steering.asking import request, steering_options
from sflow_ctl.cli.steering.target import target_run
from sflow_ctl.core.requests import Pause, Unpause


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@steering_options
def pause(run: str | None, as_json: bool, verbose: bool, output_dir: Path) -> int:
    """Start nothing new in a live run, retries and restarts included; what runs continues, and time limits too.

    RUN is a run directory, a run id or the beginning of one. Default: the only live run. A run does not end while tasks of it
    wait; status says that it is paused. sflow-ctl unpause ends the pause, and so does the run's end.
    """
    request(target_run(run, output_dir), Pause(), as_json=as_json, verbose=verbose)
    return int(ExitStatus.OK)


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@steering_options
def unpause(run: str | None, as_json: bool, verbose: bool, output_dir: Path) -> int:
    """Start tasks of a paused run again.

    RUN is a run directory, a run id or the beginning of one. Default: the only live run.
    """
    request(target_run(run, output_dir), Unpause(), as_json=as_json, verbose=verbose)
    return int(ExitStatus.OK)
