"""The block that explains why a run did not complete: task, node, exit, reason, log, next command.

The same lines are printed by `run` at its end and by `status` and `attach` later. Pure: the caller reads the
log's tail and prints the lines.
"""

from collections.abc import Sequence

from sflow_ctl.core.states import FirstCause, Outcome, Reason
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.words import exit_text, node_name, outcome_text

LOG_LINES = 20
"""Lines of the log's end that are quoted."""
LINE_CHARACTERS = 500
"""Longest part of a log line that is quoted."""


def first_cause(
    state: RunView,
    outcome: Outcome,
    cause: FirstCause,
    *,
    run: str,
    log: str | None = None,
    log_tail: Sequence[str] = (),
) -> list[str]:
    """Return the lines of the block; the first is the sentence that the others explain.

    `run` is what to type to name this run; `log` is the path as the reader can open it.
    """
    lines = [f"the run {outcome_text(outcome)}: {cause.text}"]
    record = state.tasks.get(cause.task) if cause.task is not None else None
    if record is not None:
        retries = next((task.retries.count for task in state.plan.tasks if task.name == record.name), 0)
        attempt = cause.attempt or record.attempts
        tries = f", attempt {attempt} of {retries + 1}" if retries else ""
        lines.append(f"  task:  {record.name}{tries}")
    if cause.node is not None:
        lines.append(f"  node:  {node_name(state.plan, cause.node)}")
    if record is not None and (exit_word := exit_text(record.exit_code, record.signal)) != "-":
        lines.append(f"  exit:  {exit_word}")
    if cause.reason is not None:
        lines += _why(cause.reason, cause.text)
    if log is not None:
        lines.append(f"  log:   {log}" + ("" if log_tail else " (empty)"))
        lines.extend(f"    | {line[:LINE_CHARACTERS]}" for line in log_tail[-LOG_LINES:])
    if record is not None:
        lines.append(f"  next:  sflow-ctl logs --run {run} {record.name}")
    lines.append(f"{'  next:' if record is None else '       '}  {resume_text(run)}")
    return lines


def resume_text(run: str) -> str:
    """Return the command that resumes a run."""
    return f"sflow-ctl run --resume {run}  (with an edited file: sflow-ctl run FILE --resume {run})"


def _why(reason: Reason, said: str) -> list[str]:
    lines = [f"  why:   {reason.word}"]
    if reason.text and reason.text not in said:
        lines[0] += f": {reason.text}"
    if reason.line:
        number = f"{reason.line_number}: " if reason.line_number is not None else ""
        lines.append(f"  line:  {number}{reason.line[:LINE_CHARACTERS]}")
    if reason.hint:
        lines.append(f"  hint:  {reason.hint}")
    return lines
