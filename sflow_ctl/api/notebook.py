"""What notebooks show: the table of a run, the picture of a workflow. HTML without scripts."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sflow_ctl.api.models import RunState
from sflow_ctl.api.starting import StartError, sflow_ctl

MAX_ROWS = 60
"""Of the table; `Run.rows` has all."""


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
    return f"<td>{'' if value is None else escape(str(value))}</td>"
