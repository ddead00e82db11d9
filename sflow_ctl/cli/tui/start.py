"""Starts the full-screen view: `attach --tui` and `run --tui`. Says what is missing where it cannot be shown.

`run --tui` starts the run as `run --detach` does, in a process that no terminal reaches, and shows it: a view that fails cannot
harm the run. Who leaves the view stops the run or leaves it running; a terminal that is closed stops it.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from protocol.errors import ExitStatus, FleetError, UsageError
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.cli.tui.steering import RunSteering
from sflow_ctl.core.requests import StopRun
from sflow_ctl.runtime.operating.client import ask
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.supervision.detaching import FOR_VIEW

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
    if not all(stream.isatty() for stream in streams) or os.environ.get("TERM", "") in ("", "dumb"):
        raise UsageError.of(
            "no-screen",
            "the full-screen view needs a terminal for its input and output",
            hint="sflow-ctl attach without --tui, or status --watch",
        )


def show_run(reader: RunReader, *, owns_run: bool = False) -> str:
    """Show a run on the whole screen until it is left; return `stop` if the run is to be stopped, else `leave`.

    Raises: UsageError where that is not possible.
    """
    check_screen()
    from sflow_ctl.cli.tui.app import RunApp
    from sflow_ctl.cli.tui.feed import Feed

    if len(reader.plan.tasks) > SNAPSHOT_FROM:
        reader.begin_from_snapshot()
    feed = Feed(reader)
    app = RunApp(feed, reader.directory, RunSteering(reader.directory), owns_run=owns_run)
    how = app.run()
    feed.close()
    return how or "leave"


def run_with_view(arguments: Sequence[str]) -> RunReader | int:
    """Start a run and show it; return a reader of it if it is to be waited for, else an exit status. Raises: FleetError.

    `arguments` are the words of the program's command line, with `--tui`.
    """
    check_screen()
    words = ["--detach" if word == "--tui" else word for word in arguments]
    asked, code, said = start_detached([sys.executable, *words], env={**os.environ, FOR_VIEW: "1"})
    if code != 0 or not said:
        return code if code >= 0 else 128 - code
    directory = Path(said)
    if not directory.is_absolute():  # a resumed run of which nothing is left: a sentence
        print_line(said)
        return code

    def hang_up(number: int, _frame: FrameType | None) -> None:
        with suppress(FleetError):
            ask(RunReader(directory), StopRun())
        os._exit(128 + number)

    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, hang_up)
        if number in asked:
            hang_up(number, None)
    import sflow_ctl.cli.tui.app  # noqa: F401 - this takes a second, in which Ctrl-C may come

    how = "stop" if asked else show_run(RunReader(directory), owns_run=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    reader = RunReader(directory)
    if how == "stop" and reader.summary() is None:
        replied = ask(reader, StopRun())
        print_line(replied.answer.error or replied.answer.text)
    elif reader.summary() is None:
        shown = shlex.quote(display_path(directory))
        print_line(f"{directory.name} keeps running: sflow-ctl attach --tui {shown}")
        return int(ExitStatus.OK)
    return reader


def start_detached(
    command: Sequence[str], stdin: int | None = subprocess.DEVNULL, env: Mapping[str, str] | None = None
) -> tuple[list[int], int, str]:
    """Start a detached run; return signals that came since, the exit status of the command, and what it says.

    Until the view is there, Ctrl-C is noted instead of ending this process: the run is in a session of its own and would be left.
    """
    asked: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        if child is not None:
            child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    child = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        env=env,
        start_new_session=True,  # signals reach it through this process alone
    )
    if asked:
        child.send_signal(signal.SIGTERM)
    said, _ = child.communicate()
    return asked, child.returncode, said.decode().strip()
