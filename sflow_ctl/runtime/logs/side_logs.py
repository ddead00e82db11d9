"""Keeps the output of stop and hang commands in a file beside the task's log, and reports failed ones."""

import errno
import os
import time
from pathlib import Path

from protocol.messages.facts import MAX_SIDE_OUTPUT_BYTES, SideCommandEnded
from sflow_ctl.plan.log_paths import side_log_path
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.logs.store import log_file

LINE_CHARACTERS = 300
_WHAT = {"stop": "stop command", "hang": "hang command"}


def kept(directory: Path, node: str, ended: SideCommandEnded) -> str | None:
    """Keep the output of a command; return the warning about it, if there is a reason for one."""
    try:
        keep_output(directory, node, ended)
    except OSError as error:
        return f"the output of the {ended.purpose} command of {ended.rank} cannot be kept: {error}"
    return warning_of(ended)


def keep_output(directory: Path, node: str, ended: SideCommandEnded) -> None:
    """Append the output to the task's file for its purpose, under a line with its rank, node and time.

    Raises: OSError; also for a task name that would lead out of the run directory.
    """
    if not ended.output and not ended.problem:
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    is_cut = len(ended.output) >= MAX_SIDE_OUTPUT_BYTES
    how = ended.problem or "exited with 0"
    header = (
        f"==== {when} {ended.rank} on {node}: {how}{', its beginning is cut' if is_cut else ''}\n".encode()
    )
    end = b"" if not ended.output or ended.output.endswith(b"\n") else b"\n"
    path = log_file(directory, side_log_path(ended.rank.attempt.task, ended.purpose))
    if path is None:
        raise OSError(errno.EINVAL, "not a task of this run")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(file, SECRETS.mask.raw(header + ended.output + end))
    finally:
        os.close(file)


def warning_of(ended: SideCommandEnded) -> str | None:
    """Return the warning about a command that failed; None for one that did not."""
    if not ended.problem:
        return None
    lines = ended.output.decode(errors="replace").split("\n")
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    said = f": {line[:LINE_CHARACTERS]}" if line else ""
    follows = "; its signal follows" if ended.purpose == "stop" else ""
    return f"{ended.rank}: its {_WHAT.get(ended.purpose, ended.purpose)} {ended.problem}{said}{follows}"
