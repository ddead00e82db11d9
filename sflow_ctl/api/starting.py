"""Starts `sflow-ctl` for the Python interface: a run has processes of its own, so a program or a notebook may end before it."""

import subprocess
import sys
from collections.abc import Sequence
from os import PathLike


class StartError(Exception):
    """A command was refused or has failed: its text is the message."""

    def __init__(self, text: str, exit_status: int) -> None:
        super().__init__(text)
        self.exit_status = exit_status
        """Of the command, as docs/reference/exit_statuses.md has them."""


def sflow_ctl(
    words: Sequence[str],
    given: str | None = None,
    *,
    directory: str | PathLike[str] | None = None,
    allowed: Sequence[int] = (0, 1),
) -> str:
    """Run a command of `sflow-ctl` with this interpreter, and return what it has printed.

    Args:
        words: Its arguments.
        given: Its standard input; None for none.
        directory: Where it runs. Default: the current directory.
        allowed: Exit statuses that are not errors; 1 is that of a run that failed.

    Raises: StartError.
    """
    command = [sys.executable, "-m", "sflow_ctl", *words]
    done = subprocess.run(
        command,
        check=False,
        cwd=directory,
        input=given or "",
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode not in allowed:
        text = done.stderr.strip() or f"{' '.join(words)} has ended with exit status {done.returncode}"
        raise StartError(text, done.returncode)
    return done.stdout
