"""What a record says of a process, so that others can tell whether it is still the same, and which of them can see it."""

import contextlib
from functools import cache
from pathlib import Path

from protocol.machine.procfs import start_ticks


def process_start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks after boot; 0 when there is none."""
    return start_ticks(pid) or 0


@cache
def boot() -> str:
    """Return the identity of the boot of this machine; empty if the kernel does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


@cache
def process_world() -> str:
    """Return the identity of the boot and the pid namespace of this process: pids are valid only within both."""
    with contextlib.suppress(OSError):
        return f"{boot()} {Path('/proc/self/ns/pid').readlink()}"
    return " "
