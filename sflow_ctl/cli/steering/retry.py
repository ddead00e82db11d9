"""`sflow-ctl retry`: runs tasks of a live run again that have ended in it, with what depends on them."""

import shlex
from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from protocol.text.listing import listed
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.steering.asking import request, steering_options
from sflow_ctl.cli.steering.restart import AGAIN_INSTEAD
from sflow_ctl.cli.steering.target import SHOWN, target_run_and_tasks
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.core.requests import RestartTasks
from sflow_ctl.report.selecting.rerun import ended_and_live, with_followers
from sflow_ctl.runtime.operating.client import check_alive


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[RUN] TASK...", shell_complete=complete_words)
@click.option("--only", "is_only", is_flag=True, help="Do not run what depends on them.")
@steering_options
def retry(words: tuple[str, ...], is_only: bool, as_json: bool, verbose: bool, output_dir: Path) -> int:
    """Run tasks of a live run again that have failed or completed in it, as their next attempts, and what depends on them.

    TASK is a name, a key, train[3], train[0:5] or a pattern. What runs is left alone: `restart` ends it first. `rerun` is for
    runs that have ended. Does not wait.
    """
    reader, tasks = target_run_and_tasks(words, output_dir)
    if not tasks:
        hint = "name tasks; sflow-ctl rerun RUN runs what has no result in a run that has ended"
        raise UsageError.of("no-tasks", "a run is not tried again as a whole", hint=hint)
    check_alive(reader, AGAIN_INSTEAD.replace("TASKS", shlex.join(tasks)))
    reader.refresh()
    states = {name: record.state for name, record in reader.state.tasks.items()}
    chosen = set(tasks)
    ended, live = ended_and_live(
        tasks if is_only else with_followers(tasks, reader.plan), states, reader.plan
    )
    if not chosen.intersection(ended):
        raise UsageError.of(
            "not-ended",
            f"{listed(tasks, SHOWN)} {'has' if len(tasks) == 1 else 'have'} not ended",
            hint="sflow-ctl restart ends what runs and starts it again",
        )
    left = [name for name in live if name in chosen]
    if left and not as_json:
        print_line(f"left alone, they have not ended: {listed(left, SHOWN)}", err=True)
    request(reader, RestartTasks(tasks=tuple(ended)), as_json=as_json, verbose=verbose)
    return int(ExitStatus.OK)
