"""`run --json`: a run as one JSON object a line, its events as they happen and its summary as the last one.

The run is started as `run --detach` starts it, and followed through its files: what a program reads can hold up no run.
"""

import sys
import time
from typing import Any, Literal

import msgspec

from protocol.errors import ExitStatus
from sflow_ctl.cli.looking.events import LOOK_S, EventPrinter
from sflow_ctl.cli.start.own_run import OwnRun
from sflow_ctl.cli.terminal.lines import OutputLostError, discard_stdout, json_line, print_line
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.viewing.journal_feed import JournalFeed

LIVENESS_S = 2.0


class RunStartedLine(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of `run --json`, and all that `run --detach --json` prints."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    type: Literal["run"] = "run"
    """Tells this line from events."""
    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""


class RunEndLine(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of `run --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    type: Literal["summary"] = "summary"
    """Tells this line from events."""
    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    exit_status: int
    """Of this command."""
    text: str
    """Why there is no summary; else empty."""
    summary: Any
    """The run's `summary.json`; null if its controller has died."""


def run_as_lines() -> int:
    """Start the run of this command line, print it as lines, and return its exit status."""
    command = [sys.executable, *sys.orig_argv[1:]]
    command.insert(command.index("--json"), "--detach")
    own = OwnRun()
    status = own.start(command, stdin=None)
    if own.directory is None:
        return status
    started = RunStartedLine(run_id=own.directory.name, directory=str(own.directory))
    try:
        return _print(started, RunReader(own.directory))
    except OutputLostError:
        discard_stdout()
        print_line(f"sflow-ctl: the lines are not read any more; {started.run_id} keeps running", err=True)
        raise


def _print(started: RunStartedLine, reader: RunReader) -> int:
    """Print the run until its end; return its exit status."""
    print_line(json_line(started))
    printer = EventPrinter(reader, set(), as_json=True)
    feed = JournalFeed(reader.directory)
    look_at, is_over = 0.0, False
    while not is_over:
        now = time.monotonic()
        if now >= look_at:  # before the journal is read: it is complete if the run was over
            look_at = now + LIVENESS_S
            is_over = reader.status().liveness in (Liveness.DEAD, Liveness.ENDED)
        is_over = is_over or reader.summary() is not None
        for line in printer.lines(feed.entries()):
            print_line(line)
        if not is_over:
            time.sleep(LOOK_S)
    summary = reader.summary()
    status = int(ExitStatus.INFRASTRUCTURE) if summary is None else summary.exit_status
    end = RunEndLine(
        run_id=started.run_id,
        directory=started.directory,
        exit_status=status,
        text="" if summary is not None else reader.status().text,
        summary=summary,
    )
    print_line(json_line(end))
    return status
