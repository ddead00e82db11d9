"""What notebooks show: a run as it comes along, its table, the picture of a workflow. HTML without scripts."""

import sys
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from sflow_ctl.api.models import RunState
from sflow_ctl.api.starting import StartError, sflow_ctl
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.report.run_view import RunView
from sflow_ctl.runtime.viewing.progress import read_progress

MAX_ROWS = 60
"""Of the table; `Run.rows` has all."""
SHOWN = 5
"""Names of running tasks in the line of a live run."""
SHOW_EVERY_S = 0.5


class LiveView:
    """The place of a notebook's output where a run is shown while it is waited for."""

    def __init__(self, display: Any, html: Any, directory: Path) -> None:
        """Show nothing yet.

        Args:
            display: IPython's function of this name.
            html: IPython's class for a text of HTML.
            directory: The run directory.
        """
        self._display, self._html, self._directory = display, html, directory
        self._handle: Any = None
        self._next = 0.0
        self._shown = ""

    def show(self, state: RunView, *, is_last: bool = False) -> None:
        """Show the state, unless that was done a moment ago or nothing has changed."""
        if not is_last and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SHOW_EVERY_S
        read_progress(state, self._directory)
        text = live_html(self._directory.name, state)
        if text == self._shown:
            return
        self._shown = text
        if self._handle is None:
            self._handle = self._display(self._html(text), display_id=True)
        else:
            self._handle.update(self._html(text))


def live_view(directory: Path) -> LiveView | None:
    """Return where the run of a directory is shown while it is waited for; None outside of notebooks."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    shown = sys.modules["IPython.display"]
    return LiveView(shown.display, shown.HTML, directory)


def live_html(run_id: str, state: RunView) -> str:
    """Return a bar of what has ended, the counts, and what runs, with how far that is by its own words."""
    counts, everything = state.counts(), len(state.tasks)
    ended = sum(number for one, number in counts.items() if one in TERMINAL)
    said = ", ".join(f"{counts[one]} {one.value}" for one in TaskState if one in counts)
    failed = state.failures()
    running = [
        f"{record.name} ({record.progress.text})" if record.progress is not None else record.name
        for record in state.tasks.values()
        if record.state in LIVE
    ]
    bar = f'<progress value="{ended}" max="{max(everything, 1)}"></progress>'
    lines = [f"{bar} <b>{escape(run_id)}</b> {ended} of {everything} ended: {escape(said)}"]
    lines += [f"failed: {_names(failed)}"] if failed else []
    lines += [f"running: {_names(running)}"] if running else []
    return "<br>".join(lines)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return escape(", ".join(names[:SHOWN])) + more


def run_html(status: RunState, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the state of a run, and its tasks as a table."""
    how = status.outcome.value if status.outcome is not None else f"{status.liveness.value}: {status.text}"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{escape(one)}</th>" for one in columns)
    body = "".join(f"<tr>{''.join(_cell(row.get(one)) for one in columns)}</tr>" for row in rows[:MAX_ROWS])
    more = f"<p>{len(rows) - MAX_ROWS} more rows</p>" if len(rows) > MAX_ROWS else ""
    cause = f"<p>{escape(status.cause)}</p>" if status.cause else ""
    title = f"<p><b>{escape(status.run_id)}</b> {escape(how)}</p>"
    return f"{title}{cause}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def workflow_html(text: str) -> str:
    """Return the picture of a workflow's graph, or why there is none."""
    try:
        return sflow_ctl(["visualize", "-", "--format", "svg", "--output", "-"], text, allowed=(0,))
    except StartError as error:
        return f"<pre>{escape(str(error))}</pre>"


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
    return f"<td>{escape(text)}</td>"
