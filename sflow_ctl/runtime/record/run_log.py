"""`sflow.log`: the controller's actions, one line a fact, in the format's own line layout.

Not `logging`: its import costs a tenth of a first task, and this needs one file, one layout, one writer.
"""

import contextlib
import time
from functools import lru_cache
from pathlib import Path
from typing import IO

from protocol.text.ansi import printable
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.record.durable import open_to_append

LEVELS = ("debug", "info", "warning", "error", "critical")
"""The values of `--log-level`. An error ends the run and is reported there, so nothing here is above a warning."""


class RunLog:
    """The one writer of a run's `sflow.log`. Lines are kept until `flush`, once per pass of the loop."""

    def __init__(self, path: Path, level: str = "info") -> None:
        """Write lines of at least this level, one of `LEVELS`."""
        self._path = path  # for who looks what the loop waits for
        self._file: IO[bytes] = open_to_append(path)
        self._has_info = LEVELS.index(level) <= LEVELS.index("info")
        self._has_warnings = LEVELS.index(level) <= LEVELS.index("warning")
        self._pending: list[str] = []

    def info(self, text: str, logger: str = "sflow.controller") -> None:
        """Add a fact."""
        if self._has_info:
            self._append(logger, "INFO", text)

    def warning(self, text: str, logger: str = "sflow.controller") -> None:
        """Add a line that needs attention."""
        if self._has_warnings:
            self._append(logger, "WARNING", text)

    def flush(self) -> None:
        """Write the lines added since the last call; keep them if the disk is full, since a log must not end its run."""
        if not self._pending:
            return
        data = "".join(self._pending).encode(errors="replace")
        try:
            self._file.write(data)
        except OSError:
            self._pending = self._pending[-1000:]
        else:
            self._pending = []

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        with contextlib.suppress(OSError):  # delayed write errors
            self._file.close()

    def _append(self, logger: str, level: str, text: str) -> None:
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        shown = SECRETS.mask.text(text)
        if not shown.isprintable():  # no text of others begins a line that looks like one of ours
            shown = printable(shown).replace("\n", "\n    ")
        self._pending.append(
            f"{_stamp(seconds)},{nanoseconds // 1_000_000:03d} - {logger} - {level} - {shown}\n"
        )


@lru_cache(1)
def _stamp(second: int) -> str:
    """Return the local time of a second since 1970; a busy run writes a thousand lines in one."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
