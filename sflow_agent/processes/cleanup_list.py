"""What agent and guardian both must know: the clean-ups that are still to be run. Imports next to nothing."""

import os

from sflow_agent.processes.syscalls import memory_file


class CleanupList:
    """Commands by key, in a memory file that outlives the process that writes it. Only ever appended to."""

    def __init__(self) -> None:
        self._file = memory_file("cleanups")

    def add(self, key: str, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        """This command must be run, whoever is left to do it. Raises: OSError."""
        self._append([key, argv, environment])

    def remove(self, key: str) -> None:
        """The command has done its work. Raises: OSError."""
        self._append([key])

    def pending(self) -> dict[str, tuple[list[str], dict[str, str]]]:
        """What was added and not removed: key to argv and environment."""
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
