"""Starts the full-screen view: `attach --tui`. Says what is missing where it cannot be shown."""

import os
import sys

from protocol.errors import ExitStatus, UsageError
from sflow_ctl.cli.steering.acting import SteeringByRequest
from sflow_ctl.runtime.record.reader import RunReader

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


def show_run(reader: RunReader) -> int:
    """Show a run on the whole screen until it is left; return the exit status of a run that has ended, else 0."""
    check_screen()
    from sflow_ctl.cli.tui.app import RunApp
    from sflow_ctl.cli.tui.feed import Feed

    if len(reader.plan.tasks) > SNAPSHOT_FROM:
        reader.begin_from_snapshot()
    feed = Feed(reader)
    app = RunApp(feed, reader.directory, SteeringByRequest(reader.directory))
    app.run()
    feed.close()
    return int(ExitStatus.OK) if feed.summary is None else feed.summary.exit_status
