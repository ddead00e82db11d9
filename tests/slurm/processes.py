"""Processes of a cluster, seen from outside: who they are, whether they live, ending them."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec

END_WITHIN_S = 30.0


class Process(msgspec.Struct, frozen=True):
    """One process, identified by its start time (clock ticks since boot) beside its pid."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """None if there is no such process, or only its zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def is_alive(self) -> bool:
        """False for a zombie too."""
        return Process.of(self.pid) == self

    @property
    def name(self) -> str:
        """At most 15 characters, as `ps -o comm` shows it."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/comm").read_text().strip()
        return ""

    @property
    def command(self) -> str:
        """Its arguments; empty once it is gone."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return ""

    def kill(self) -> None:
        """Send SIGKILL; return when it has ended, and with it all of a PID namespace whose first process it is."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if not self.is_alive:
                return
            try:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            except ProcessLookupError:
                return  # it has ended just now
            if not select.select([descriptor], [], [], END_WITHIN_S)[0]:
                raise TimeoutError(f"{self.command} ({self.pid}) does not end")
        finally:
            os.close(descriptor)


def in_same_namespace(first: Process) -> Iterator[Process]:
    """Every process of the PID namespace of that first process, itself left out; none of nested ones."""
    directory = Path("/proc", str(first.pid))
    namespace = _namespace(directory)
    for entry in Path("/proc").iterdir() if namespace else ():
        if entry.name.isdecimal() and entry != directory and _namespace(entry) == namespace:
            process = Process.of(int(entry.name))
            if process is not None:
                yield process


def _namespace(process: Path) -> Path | None:
    try:
        return (process / "ns" / "pid").readlink()
    except OSError:
        return None
