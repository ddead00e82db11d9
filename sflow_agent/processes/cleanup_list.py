"""The pending cleanups, shared by agent and guardian. Imports as little as possible."""

import os

from sflow_agent.processes.syscalls import memory_file


class CleanupList:
    """Commands by key, in a memory file that outlives its writer. Only ever appended to."""

    def __init__(self) -> None:
        self._file = memory_file("cleanups")

    def add(self, key: str, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        """Note a command that agent or guardian must run. Raises: OSError."""
        self._append([key, argv, environment])

    def remove(self, key: str) -> None:
        """Note that a command has done its work. Raises: OSError."""
        self._append([key])

    def pending(self) -> dict[str, tuple[list[str], dict[str, str]]]:
        """Return the commands that were added and not removed: key to argv and environment."""
        import json  # only where containers are used

        left: dict[str, tuple[list[str], dict[str, str]]] = {}
        size = os.fstat(self._file).st_size
        for line in os.pread(self._file, size, 0).splitlines():
            key, *rest = json.loads(line)
            if rest:
                left[key] = (rest[0], rest[1])
            else:
                left.pop(key, None)
        return left

    def _append(self, entry: list[object]) -> None:
        import json

        os.write(self._file, json.dumps(entry).encode() + b"\n")
