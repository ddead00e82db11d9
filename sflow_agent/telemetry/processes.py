"""Reads what /proc says of single processes, in as few system calls as possible. `owners` decides whose they are.

Each function handles a process that may end at any moment: None then. Measured costs and what follows from them:
docs/decisions/telemetry.md.
"""

import os
import re

from protocol.text.lazy_pattern import lazy_pattern
from sflow_agent.telemetry.looks import IoTotals, Look

TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_PSS = lazy_pattern(rb"^Pss:\s+(\d+)", re.MULTILINE)


def look_at(pid: int) -> Look | None:
    """Return a process; None for one that is gone, or a zombie without threads."""
    content = _content(f"/proc/{pid}/stat")
    fields = content[content.rfind(b")") + 2 :].split()
    if len(fields) < 22 or (fields[0] in (b"Z", b"X") and int(fields[17]) <= 1):
        return None
    return Look(
        int(fields[1]),
        int(fields[3]),
        int(fields[19]),
        (int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) * TICK_MS,
        int(fields[17]),
        int(fields[21]) * PAGE_KIB,
    )


def traffic_of(pid: int) -> IoTotals | None:
    """Return what a process has read and written; None where that is not allowed."""
    words = _content(f"/proc/{pid}/io").split()
    if len(words) < 12:
        return None
    return IoTotals(int(words[1]) >> 10, int(words[3]) >> 10, int(words[9]) >> 10, int(words[11]) >> 10)


def descriptors_of(pid: int) -> int | None:
    """Return how many descriptors a process has open; None where that is not allowed.

    Source: proc(5), fd: since Linux 6.2 the size of the directory is their number, before it is 0.
    """
    path = f"/proc/{pid}/fd"
    try:
        return os.stat(path).st_size or len(os.listdir(path))  # noqa: PTH116, PTH208 - hot path
    except OSError:
        return None


def pss_kib(pid: int) -> int | None:
    """Return a process's memory with its share of what it shares with others: dear, the kernel walks all of its pages."""
    found = _PSS.search(_content(f"/proc/{pid}/smaps_rollup"))
    return int(found[1]) if found is not None else None


def newest_pid() -> int | None:
    """Return the pid that the kernel gave out last: while it is the same, nothing has been started."""
    words = _content("/proc/loadavg").split()
    return int(words[4]) if len(words) > 4 else None


def pids() -> list[int]:
    """Return all processes of the node that are visible here."""
    return [int(name) for name in os.listdir("/proc") if name[0] in "123456789"]  # noqa: PTH208 - hot path


def _content(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 8192)
    except OSError:  # it has ended meanwhile
        return b""
    finally:
        os.close(descriptor)
