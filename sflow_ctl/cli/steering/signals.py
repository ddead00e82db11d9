"""`sflow-ctl signal`: sends a signal to tasks of a live run."""

from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from protocol.text.signal_names import SIGNAL_NAMES, signal_number
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.steering.asking import request, steering_options
from sflow_ctl.cli.steering.target import target_run_and_tasks
from sflow_ctl.core.requests import SignalTasks
from sflow_ctl.format.checking import nearest


@click.command(name="signal")
@click.argument(
    "words", nargs=-1, required=True, metavar="[RUN] TASK... SIGNAL", shell_complete=complete_words
)
@steering_options
def signal_(words: tuple[str, ...], as_json: bool, verbose: bool, output_dir: Path) -> int:
    """Send a signal to all processes of running tasks.

    SIGNAL is a name, as USR1 or SIGHUP, or a number. How the program reacts is its own affair: a task that ends by it is
    judged as if the signal had come from elsewhere. To end tasks, use sflow-ctl stop or restart. A job step gets SIGUSR1 and
    SIGUSR2 only, by its srun.
    """
    *names, word = words
    number = signal_number(word)
    if number is None:
        meant = nearest(word.upper(), [*SIGNAL_NAMES, *(name.removeprefix("SIG") for name in SIGNAL_NAMES)])
        hint = (
            f"did you mean {meant}?" if meant else "the signal comes last, as in: sflow-ctl signal TASK USR1"
        )
        raise UsageError.of("unknown-signal", f'"{word}" is not a signal', hint=hint)
    if not names:
        raise UsageError.of("no-tasks", "no task is named", hint="as in: sflow-ctl signal TASK USR1")
    reader, tasks = target_run_and_tasks(tuple(names), output_dir)
    if not tasks:
        hint = "name tasks; sflow-ctl stop ends the run"
        raise UsageError.of("no-tasks", "a run gets no signals as a whole", hint=hint)
    request(reader, SignalTasks(tasks=tuple(tasks), signal=number), as_json=as_json, verbose=verbose)
    return int(ExitStatus.OK)
