"""Whether a process of a record is still the same one, and which other processes can see it."""

import contextlib
from functools import cache
from pathlib import Path

from protocol.machine.procfs import read_stat


def process_start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks after boot; 0 when there is none."""
    stat = read_stat(pid)
    return 0 if stat is None else stat.start_ticks


def is_same_process(pid: int, started: int) -> bool:
    """True when the process with this pid and start time exists and has not ended."""
    stat = read_stat(pid)
    return stat is not None and stat.is_living and stat.start_ticks == started


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
