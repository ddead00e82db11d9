"""The clock of a fleet that can jump, by a library that is loaded into all of its processes: `clock.c`.

A jump of the time of day is what a correction by NTP or an administrator does; a jump of all clocks is what processes see of
a virtual machine that was paused.
"""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).parent / "clock.c"
_JUMPS = struct.Struct("<qq")
LONGEST_JUMP_S = 2 * 86400.0


def can_jump() -> bool:
    """Return whether this machine can build the library."""
    return shutil.which("cc") is not None


class JumpingClock:
    """The library in a directory, and the file that it reads: one for all machines, or one for each."""

    def __init__(self, directory: Path, machines: Sequence[str] = ()) -> None:
        """Build it. Raises: subprocess.CalledProcessError."""
        self._library, self._file = directory / "clock.so", directory / "clock"
        build = ["cc", "-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE), "-ldl", "-lpthread"]
        subprocess.run(build, check=True)
        self._ahead_s = {machine: [0.0, 0.0] for machine in ("", *machines)}
        for machine in self._ahead_s:
            self._write(machine)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of processes that are to have this clock."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def set_time_of_day(self, ahead_s: float, machine: str = "") -> None:
        """Let the time of day be so far ahead of the true one, or behind it."""
        self._ahead_s[machine][0] = ahead_s
        self._write(machine)

    def correct(self) -> None:
        """Let the time of day be the true one everywhere, but for pauses."""
        for machine in self._ahead_s:
            self.set_time_of_day(0.0, machine)

    def pause(self, seconds: float, machine: str = "") -> None:
        """Let this time pass at once."""
        self._ahead_s[machine][1] += seconds
        self._write(machine)

    def _write(self, machine: str) -> None:
        content = _JUMPS.pack(*(round(seconds * 1e9) for seconds in self._ahead_s[machine]))
        path = self._file.with_name(f"{self._file.name}.{machine}") if machine else self._file
        with path.open("r+b" if path.exists() else "wb") as file:  # it is mapped: never another file
            file.write(content)
