"""Facts from `/proc` about processes of this machine: whether one is still the same, and which others can see it.

The one place of the controller that parses `/proc/PID/stat`.
"""

import contextlib
from functools import cache
from pathlib import Path


def process_start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks after boot; 0 when there is none.

    Source: proc(5), stat field 22.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def is_same_process(pid: int, started: int) -> bool:
    """True when the process with this pid and start time exists and has not ended."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in (b"Z", b"X") and int(fields[19]) == started


@cache
def process_world() -> str:
    """Return the identity of the boot and the pid namespace of this process: pids are valid only within both."""
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{boot} {namespace}"


def _stat(pid: int) -> list[bytes]:
    """Return the fields of `/proc/PID/stat` from the state on (field 3); empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []
