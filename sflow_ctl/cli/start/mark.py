"""`sflow-ctl mark`: begins or ends a window of a task's time, from inside the task."""

import os
import time
from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from protocol.messages.telemetry import MARKS_FILE, MAX_NAME
from sflow_ctl.cli.terminal.lines import print_warning
from sflow_ctl.runtime.record.durable import open_to_append

_IN_TASK = "SFLOW_ATTEMPT_ID"


@click.command()
@click.argument("name")
@click.option("--end", "is_end", is_flag=True, help="End the window instead of beginning it.")
def mark(name: str, is_end: bool) -> int:
    """Begin or end a window of the task that this is called in.

    The CPU time, memory, GPU use and energy of each window are in `summary.json`. A window that is begun again ends first;
    one that is never ended lasts as long as the task. In a container without sflow-ctl, add a line to the file in
    SFLOW_MARKS_FILE: `<nanoseconds since 1970> begin|end NAME`.
    """
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError.of(
            "window-name",
            f"a window's name has 1 to {MAX_NAME} letters, all of them printable",
            hint='for example `sflow-ctl mark "epoch 3"`',
        )
    path = os.environ.get(MARKS_FILE, "")
    if not path and _IN_TASK not in os.environ:
        hint = "call it in the script of a task, which has the variable SFLOW_MARKS_FILE"
        raise UsageError.of("not-in-a-task", "windows are marked from inside a task", hint=hint)
    if not path:  # a measurement never fails a task
        print_warning("the window is not marked: telemetry is off (settings.telemetry.enabled)")
        return int(ExitStatus.OK)
    if is_end and not _is_open(Path(path), name):
        print_warning(f'the window "{name}" has not begun, or has ended already: nothing is marked')
        return int(ExitStatus.OK)
    line = f"{time.time_ns()} {'end' if is_end else 'begin'} {name}\n".encode()
    try:
        with open_to_append(Path(path)) as file:
            file.write(line)
    except OSError as error:
        print_warning(f"the window is not marked: {path}: {error.strerror}")
    return int(ExitStatus.OK)


def _is_open(path: Path, name: str) -> bool:
    """Return whether a window was begun and not ended, as far as its file can be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    marks = (line.split(" ", 2)[1:] for line in lines)
    own = [one[0] for one in marks if len(one) == 2 and one[1] == name]
    return own[-1:] == ["begin"]
