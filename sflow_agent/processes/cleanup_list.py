"""The pending cleanups, shared by agent and guardian. Imports as little as possible."""

import os
from typing import Any

from sflow_agent.processes.syscalls import memory_file

_STEPS = ""
"""The key of the mark of job steps; ranks have names."""


class CleanupList:
    """Commands by key, in a memory file that outlives its writer. Appended to by one agent, and emptied before the next."""

    def __init__(self) -> None:
        self._file = memory_file("cleanups")

    def add(self, key: str, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        """Note a command that agent or guardian must run. Raises: OSError."""
        self._append([key, argv, environment])

    def remove(self, key: str) -> None:
        """Note that a command has done its work. Raises: OSError."""
        self._append([key])

    def note_steps(self, run_mark: int) -> None:
        """Processes with this mark are of a job step of the run, and nothing else would end them. Raises: OSError."""
        self._append([_STEPS, run_mark])

    def run_mark(self) -> int | None:
        """The mark that was noted; None outside of Slurm jobs."""
        return next((entry[1] for entry in self._entries() if entry[0] == _STEPS), None)

    def pending(self) -> dict[str, tuple[list[str], dict[str, str]]]:
        """Return the commands that were added and not removed: key to argv and environment."""
        left: dict[str, tuple[list[str], dict[str, str]]] = {}
        for key, *rest in self._entries():
            if key == _STEPS:
                continue
            if rest:
                left[key] = (rest[0], rest[1])
            else:
                left.pop(key, None)
        return left

    def forget(self) -> None:
        """Forget the commands, which have done their work: the next agent notes its own. Raises: OSError."""
        mark = self.run_mark()
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        if mark is not None:
            self.note_steps(mark)

    def _entries(self) -> list[Any]:
        size = os.fstat(self._file).st_size
        if not size:
            return []  # as mostly: nothing waits for the import at the run's end
        import json  # only where containers are used, and in Slurm jobs

        return [json.loads(line) for line in os.pread(self._file, size, 0).splitlines()]

    def _append(self, entry: list[object]) -> None:
        import json

        os.write(self._file, json.dumps(entry).encode() + b"\n")
