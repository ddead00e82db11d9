"""`sflow.log`: what the controller did, one line a fact, in the format's own line layout.

Not `logging`: its import costs a tenth of a first task, and this needs one file, one layout, one writer.
"""

import time
from pathlib import Path
from typing import IO

LEVELS = ("debug", "info", "warning", "error", "critical")
"""Of the format's `--log-level`. Errors end a run and are said by its end, so nothing here is above a warning."""


class RunLog:
    """The one writer of a run's `sflow.log`. Lines are kept until `flush`, once per pass of the loop."""

    def __init__(self, path: Path, level: str = "info") -> None:
        """Notes what is at least of this level, one of `LEVELS`."""
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._has_info = LEVELS.index(level) <= LEVELS.index("info")
        self._has_warnings = LEVELS.index(level) <= LEVELS.index("warning")
        self._pending: list[str] = []

    def info(self, text: str, logger: str = "sflow.controller") -> None:
        """Notes a fact."""
        if self._has_info:
            self._append(logger, "INFO", text)

    def warning(self, text: str, logger: str = "sflow.controller") -> None:
        """Notes something that a person should look at."""
        if self._has_warnings:
            self._append(logger, "WARNING", text)

    def flush(self) -> None:
        """Writes what was noted. A full disk must not end a run over its own log: the lines are kept."""
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
        """Flushes and closes."""
        self.flush()
        self._file.close()

    def _append(self, logger: str, level: str, text: str) -> None:
        nanoseconds = time.time_ns()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds // 1_000_000_000))
        milliseconds = nanoseconds // 1_000_000 % 1000
        self._pending.append(f"{stamp},{milliseconds:03d} - {logger} - {level} - {text}\n")
