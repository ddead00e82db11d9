"""An `srun` to put first on PATH, that writes down each call and then is the real one."""

import shlex
import shutil
from pathlib import Path

SCRIPT = """#!/bin/sh
call=$(mktemp {calls}/XXXXXXXX)
printf '%s\\0' "$@" > "$call"
exec {srun} "$@"
"""


class CountedSrun:
    """Counts on all nodes that see the directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """The directory to put on PATH."""
        self._calls = directory / "calls"
        self._calls.mkdir(parents=True)
        srun = shutil.which("srun")
        if srun is None:
            raise FileNotFoundError("srun is not installed")
        wrapper = directory / "srun"
        wrapper.write_text(SCRIPT.format(calls=shlex.quote(str(self._calls)), srun=shlex.quote(srun)))
        wrapper.chmod(0o755)

    def calls(self) -> list[list[str]]:
        """The arguments of every call so far, the first call first."""
        files = sorted(self._calls.iterdir(), key=lambda file: file.stat().st_mtime_ns)
        return [file.read_text().split("\0")[:-1] for file in files]
