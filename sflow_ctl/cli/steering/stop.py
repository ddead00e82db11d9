"""`sflow-ctl stop`: stops a live run, or tasks of it."""

from pathlib import Path

import click

from protocol.errors import ExitStatus
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.steering.asking import await_end, request, steering_options
from sflow_ctl.cli.steering.target import target_run_and_tasks
from sflow_ctl.core.requests import StopRun, StopTasks


@click.command()
@click.argument("words", nargs=-1, metavar="[RUN] [TASK]...", shell_complete=complete_words)
@click.option("-k", "--kill", is_flag=True, help="Kill at once, without grace and order.")
@click.option("--no-wait", is_flag=True, help="Do not wait until they have ended.")
@steering_options
def stop(
    words: tuple[str, ...], kill: bool, no_wait: bool, as_json: bool, verbose: bool, output_dir: Path
) -> int:
    """Stop a live run in order, as Ctrl-C does, or stop tasks of it.

    RUN is a run directory, a run id or the beginning of one. Default: the only live run. TASK is a name (of all replicas), a
    replica such as a[2], or a pattern such as "a*". A stopped task does not start again, also if it has retries or a restart
    policy, and its stop is not a failure. Tasks that need it alive are stopped as well, unless it has on_failure: continue;
    those that wait for it are skipped. A run of which a job was stopped does not count as completed. Waits for the end;
    Ctrl-C ends the wait only.
    """
    reader, tasks = target_run_and_tasks(words, output_dir)
    action = StopTasks(tasks=tuple(tasks), is_killed=kill) if tasks else StopRun(is_killed=kill)
    request(reader, action, as_json=as_json, verbose=verbose)
    return int(ExitStatus.OK) if no_wait else await_end(reader, tasks)
