"""Reads the kernel's out-of-memory kills: the counter of this agent's cgroup, and the kernel's log.

`core.memory_kills` attributes kills to ranks.
"""

import contextlib
import os
import re
from pathlib import Path

from protocol.text.lazy_pattern import lazy_pattern

_KILLED = lazy_pattern(rb"Killed process (\d+) \(")
_COUNT = lazy_pattern(rb"^oom_kill (\d+)$", re.MULTILINE)
_UNLIMITED = 1 << 60
"""cgroup v1 writes "no limit" as a number near 2**63."""
MAX_RECORDS = 50_000
"""The limit of records of the kernel's log: more than its buffer has."""


class MemoryEvents:
    """The counter of processes that the OOM killer ended in a cgroup, for any limit. 0 without a counter."""

    def __init__(self, root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> None:
        self._directory, name = _find(Path(root), Path(membership))
        self._descriptor = -1
        if self._directory is not None:
            with contextlib.suppress(OSError):
                self._descriptor = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)

    def kills(self) -> int:
        """Return the number of processes killed so far.

        One small read: called at every start and end of a rank.
        """
        if self._descriptor < 0:
            return 0
        try:
            match = _COUNT.search(os.pread(self._descriptor, 4096, 0))
        except OSError:
            return 0
        return int(match[1]) if match is not None else 0

    def limit(self) -> str:
        """Return the nearest limit, for a person: "4.0 GiB"; empty when there is none."""
        directory = self._directory
        while directory is not None and directory != directory.parent:
            for name in ("memory.max", "memory.limit_in_bytes"):
                with contextlib.suppress(OSError, ValueError):
                    limit = int((directory / name).read_text())
                    if limit < _UNLIMITED:
                        return _bytes_text(limit)
            directory = directory.parent
        return ""


def _find(root: Path, membership: Path) -> tuple[Path | None, str]:
    """Return (directory, file) of the counter.

    Source: cgroups(7); v2 has one line `0::PATH`, v1 one for each controller.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None, ""
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            directory, name = root / path.lstrip("/"), "memory.events"
        elif "memory" in controllers.split(","):
            directory, name = root / "memory" / path.lstrip("/"), "memory.oom_control"
        else:
            continue
        # In a container the path may be the host's, while only its own part is mounted.
        for candidate in (directory, root if name == "memory.events" else root / "memory"):
            if (candidate / name).exists():
                return candidate, name
    return None, ""


def _bytes_text(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def kernel_killed(pid: int, since_s: float, path: str = "/dev/kmsg") -> bool:
    """Return whether the kernel's log has a kill of this process for lack of memory.

    Considers records after `since_s` of the monotonic clock. Mostly only root may read the log. Source:
    Documentation/ABI/testing/dev-kmsg.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        for _ in range(MAX_RECORDS):
            try:
                record = os.read(descriptor, 8192)
            except BrokenPipeError:
                continue  # overwritten meanwhile; the next one is there
            except OSError:
                return False
            if not record:
                return False
            if _names(record, pid, since_s):
                return True
        return False
    finally:
        os.close(descriptor)


def _names(record: bytes, pid: int, since_s: float) -> bool:
    head, _, text = record.partition(b";")
    match = _KILLED.search(text)
    if match is None or int(match[1]) != pid or b"ut of memory" not in text:
        return False
    fields = head.split(b",")
    # A second of tolerance: that clock and ours begin at the same time, and are corrected alike, but are not
    # the same.
    return len(fields) > 2 and fields[2].isdigit() and int(fields[2]) / 1e6 >= since_s - 1.0
