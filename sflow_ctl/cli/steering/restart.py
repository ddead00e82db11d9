"""`sflow-ctl restart`: starts tasks of a live run again."""

import shlex
from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.steering.asking import request, steering_options
from sflow_ctl.cli.steering.target import target_run_and_tasks
from sflow_ctl.core.requests import RestartTasks
from sflow_ctl.runtime.operating.client import check_alive

AGAIN_INSTEAD = "sflow-ctl rerun RUN TASKS runs them again, and what needs them"


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[RUN] TASK...", shell_complete=complete_words)
@steering_options
def restart(words: tuple[str, ...], as_json: bool, verbose: bool, output_dir: Path) -> int:
    """Start tasks of a live run again: what runs is stopped first, and what has ended begins anew.

    TASK is a name (of all replicas), a replica such as a[2], or a pattern such as "a*". It keeps its place, and does not use
    up a retry or a restart of its policy. Clients of a service continue, unless it has restart: {dependents: true}. Tasks
    that were skipped because this one had failed run after all. Does not wait: sflow-ctl wait --for ready does.
    """
    reader, tasks = target_run_and_tasks(words, output_dir)
    if not tasks:
        hint = "name tasks; sflow-ctl run --resume runs what is left of a run that has ended"
        raise UsageError.of("no-tasks", "a run is not restarted as a whole", hint=hint)
    check_alive(reader, AGAIN_INSTEAD.replace("TASKS", shlex.join(tasks)))
    request(reader, RestartTasks(tasks=tuple(tasks)), as_json=as_json, verbose=verbose)
    return int(ExitStatus.OK)
