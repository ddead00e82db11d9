"""The block that explains why a run did not complete: task, node, exit, reason, log, next command.

The same lines are printed by `run` at its end and by `status` and `attach` later. Pure: the caller reads the
log's tail and prints the lines.
"""

import shlex
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
    run: str | None,
    files: Sequence[str] = (),
    log: str | None = None,
    log_tail: Sequence[str] = (),
) -> list[str]:
    """Return the lines of the block; the first is the sentence that the others explain.

    `run` is what to type to name this run, None when its record is gone; `files` are its workflow files, `log` is the path as
    the reader can open it.
    """
    is_of_task = outcome is Outcome.FAILED and cause.text.startswith("task ")  # says itself what failed
    is_of_record = cause.reason is not None and cause.reason.word in ("record", "disk_full")
    verb = "failed" if is_of_record and outcome is Outcome.INFRASTRUCTURE else outcome_text(outcome)
    lines = [cause.text if is_of_task else f"the run {verb}: {cause.text}"]
    record = state.tasks.get(cause.task) if cause.task is not None else None
    if record is not None:
        retries = next((task.retries.count for task in state.plan.tasks if task.name == record.name), 0)
        attempt = cause.attempt or record.attempts
        tries = f", attempt {attempt} of {retries + 1}" if retries else ""
        lines.append(f"  task:  {record.name}{tries}")
    if cause.node is not None:
        lines.append(f"  node:  {node_name(state.plan, cause.node)}")
    if record is not None and (exit_word := exit_text(record.exit_code, record.signal)) != "-":
        is_said = (
            exit_word in cause.text if record.signal is not None else f"status {exit_word}" in cause.text
        )
        lines += [] if is_said else [f"  exit:  {exit_word}"]
    if cause.reason is not None:
        lines += _why(cause.reason, cause.text)
    if log is not None:
        lines.append(f"  log:   {log}" + ("" if log_tail else " (empty)"))
        if not _is_known(log_tail, cause.reason):
            lines.extend(f"    | {line[:LINE_CHARACTERS]}" for line in log_tail[-LOG_LINES:])
    if run is not None:
        logs = [] if record is None else [logs_command(run, record.name)]
        lines += next_lines([*logs, *resume_commands(run, files)], "  next:  ")
    return lines


def resume_commands(run: str, files: Sequence[str] = ()) -> list[str]:
    """Return the commands that resume a run, as a shell takes them; `FILE` is for a workflow that was not a file."""
    word = shlex.quote(run)
    names = shlex.join(files) or "FILE"
    after = "after editing the files" if len(files) > 1 else "after editing the file"
    return [f"sflow-ctl run --resume {word}", f"sflow-ctl run {names} --resume {word}  ({after})"]


def logs_command(run: str, task: str) -> str:
    """Return the command that prints a task's log, as a shell takes it."""
    return f"sflow-ctl logs --run {shlex.quote(run)} {shlex.quote(task)}"


def next_lines(commands: Sequence[str], head: str = "next: ") -> list[str]:
    """Return the commands one below the other, the first after `head`."""
    return [f"{head if index == 0 else ' ' * len(head)}{command}" for index, command in enumerate(commands)]


def _is_known(log_tail: Sequence[str], reason: Reason | None) -> bool:
    """Return True when the log has only the one line that the reason quotes."""
    line = "" if reason is None else reason.line.strip()
    return bool(line) and {one.strip() for one in log_tail} <= {line, ""}


def _why(reason: Reason, said: str) -> list[str]:
    """Return the lines about the reason, without what the sentence `said` has said already."""
    lines = []
    if reason.text and reason.text not in said:
        lines.append(f"  why:   {reason.word}: {reason.text}")
    elif reason.word not in ("exit", "signal"):
        lines.append(f"  why:   {reason.word}")
    if reason.line:
        number = "" if reason.line_number is None else str(reason.line_number)
        quoted = "" if reason.line.strip() in said else reason.line[:LINE_CHARACTERS]
        if number or quoted:
            lines.append(f"  line:  {': '.join(filter(None, (number, quoted)))}")
    if reason.hint:
        lines.append(f"  hint:  {reason.hint}")
    return lines
