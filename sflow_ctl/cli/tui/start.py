"""Starts the full-screen view: `attach --tui` and `run --tui`. Says what is missing where it cannot be shown.

`run --tui` starts the run as `run --detach` does, in a process that no terminal reaches, and shows it: a view that fails cannot
harm the run. Who leaves the view stops the run or leaves it running. A signal, or a terminal that is closed, stops it in order.
"""

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from protocol.errors import ExitStatus, UsageError
from sflow_ctl.cli.commands.attach import say_end
from sflow_ctl.cli.start.own_run import OwnRun
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.cli.tui.steering import RunSteering
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.supervision.detaching import STOPPING

if TYPE_CHECKING:
    from sflow_ctl.cli.tui.app import RunApp

SNAPSHOT_FROM = 2_000
"""Of a run with more tasks only the changes since its last snapshot are read."""


def check_screen() -> None:
    """Raise UsageError where a full-screen view is not possible."""
    try:
        import textual  # noqa: F401 - asked for only
    except ImportError as error:
        raise UsageError.of(
            "no-textual",
            "the full-screen view needs the package textual, which is not installed here",
            hint='install it with sflow-ctl: pipx install "sflow-ctl[tui]", or pip install textual',
        ) from error
    streams = (sys.stdin, sys.stdout, sys.stderr)  # textual writes to standard error
    term = os.environ.get("TERM", "")
    what = ""
    if not all(stream.isatty() for stream in streams):
        what = "the full-screen view needs a terminal for its input and output"
    elif term in ("", "dumb"):
        what = f"the full-screen view needs a terminal that can move its cursor; TERM is {term or 'not set'}"
    if what:
        raise UsageError.of("no-screen", what, hint="sflow-ctl attach without --tui, or status --watch")


def show_run(reader: RunReader, own: OwnRun | None = None) -> str:
    """Show a run on the whole screen until it is left; return `stop` if the run is to be stopped, else `leave`.

    A signal leaves the view, with the terminal as it was. `own` is a run that this process answers for.

    Raises: UsageError where that is not possible.
    """
    check_screen()
    from sflow_ctl.cli.tui.app import RunApp
    from sflow_ctl.cli.tui.feed import Feed

    if len(reader.plan.tasks) > SNAPSHOT_FROM:
        reader.begin_from_snapshot()
    feed = Feed(reader)
    app = RunApp(feed, reader.directory, RunSteering(reader.directory), owns_run=own is not None)
    try:
        if own is None:
            with _left_by_signals(app):
                return app.run() or "leave"
        own.on_signal = app.leave_at_once
        if own.signals:
            return "stop"
        return app.run() or "leave"
    finally:
        feed.close()


@contextmanager
def _left_by_signals(app: "RunApp") -> Iterator[None]:
    """End the view at a signal, and the process with the status of that, unless it is Ctrl-C. The run is not affected."""
    came: list[int] = []

    def leave(number: int, _frame: object) -> None:
        came.append(number)
        app.leave_at_once()

    before = {number: signal.signal(number, leave) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came and came[0] != signal.SIGINT:
        raise SystemExit(128 + came[0])


def run_with_view(arguments: Sequence[str]) -> int:
    """Start a run and show it; return its exit status, or 0 if it is left running. Raises: FleetError.

    `arguments` are the words of the program's command line, with `--tui`.
    """
    check_screen()
    own = OwnRun()
    status = own.start([sys.executable, *("--detach" if word == "--tui" else word for word in arguments)])
    if own.directory is None:
        return status
    how = "stop" if own.signals else show_run(RunReader(own.directory), own)
    place = own.console_size()
    if not own.lives():  # it had ended before the view was left
        return say_end(RunReader(own.directory))
    if how == "leave" and own.let_go():
        shown = shlex.quote(display_path(own.directory))
        print_line(f"{own.directory.name} keeps running: sflow-ctl attach --tui {shown}")
        return int(ExitStatus.OK)
    if not own.signals:
        own.stop()
    own.show_end(place)
    ended = RunReader(own.directory).summary()
    return say_end(RunReader(own.directory)) if ended is None else ended.exit_status
