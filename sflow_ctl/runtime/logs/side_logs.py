"""What commands beside tasks have printed: kept in a file beside the task's log, and told when they failed."""

import os
import time
from pathlib import Path

from protocol.messages.facts import MAX_SIDE_OUTPUT_BYTES, SideCommandEnded
from sflow_ctl.plan.log_paths import side_log_path

LINE_CHARACTERS = 300
_WHAT = {"stop": "stop command", "hang": "command that looks into its hang"}


def keep_output(directory: Path, node: str, ended: SideCommandEnded) -> None:
    """Appends it to the task's file for the purpose, under a line that says of what and when. Raises: OSError."""
    if not ended.output and not ended.problem:
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    is_cut = len(ended.output) >= MAX_SIDE_OUTPUT_BYTES
    how = ended.problem or "exited with 0"
    header = (
        f"==== {when} {ended.rank} on {node}: {how}{', its beginning is cut' if is_cut else ''}\n".encode()
    )
    end = b"" if not ended.output or ended.output.endswith(b"\n") else b"\n"
    path = directory / side_log_path(ended.rank.attempt.task, ended.purpose)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, header + ended.output + end)
    finally:
        os.close(file)


def warning_of(ended: SideCommandEnded) -> str | None:
    """What to say of a command that did not do its work."""
    if not ended.problem:
        return None
    lines = ended.output.decode(errors="replace").split("\n")
    line = next((line.strip() for line in reversed(lines) if line.strip()), "")
    said = f": {line[:LINE_CHARACTERS]}" if line else ""
    follows = "; its signal follows" if ended.purpose == "stop" else ""
    return f"{ended.rank}: its {_WHAT.get(ended.purpose, ended.purpose)} {ended.problem}{said}{follows}"
