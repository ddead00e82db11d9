"""Reads the load of this node: CPU, memory, disk, network. `sampler` calls it in a thread.

The kernel's own files, without psutil: a few system calls a reading. The functions that interpret them are pure.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from protocol.messages.monitor import Reading, Scope

ROOT_MOUNT = "/"
_PROC = Path("/proc")


class CpuTimes(NamedTuple):
    """Ticks of all CPUs since the boot."""

    idle: int
    """Waiting for input and output included."""
    total: int


class Traffic(NamedTuple):
    """What all interfaces but the loopback have carried since the boot."""

    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int


class HostReader:
    """Reads scopes; keeps what rates need of the reading before."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._cpu: CpuTimes | None = None
        self._traffic: tuple[float, Traffic] | None = None
        self._errors: dict[Scope, str] = {}
        self._read: dict[Scope, Callable[[], tuple[int | float | str | None, ...]]] = {
            "cpu": self._read_cpu,
            "memory": self._read_memory,
            "disk": _read_disk,
            "network": self._read_network,
        }

    def begin(self, scopes: list[Scope]) -> None:
        """Take the first look that the rates of these scopes begin with."""
        for scope in scopes:
            if scope == "cpu":
                self._cpu = None
            elif scope == "network":
                self._traffic = None
        self.read([scope for scope in scopes if scope in ("cpu", "network")])

    def read(self, scopes: list[Scope]) -> list[Reading]:
        """Return a reading for each scope; one that cannot be read says so once."""
        readings: list[Reading] = []
        for scope in scopes:
            at_ms = time.time_ns() // 1_000_000
            try:
                values = self._read[scope]()
            except (OSError, ValueError, IndexError, KeyError) as error:
                text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                if self._errors.get(scope) != text:
                    self._errors[scope] = text
                    readings.append(Reading(scope=scope, at_ms=at_ms, error=text))
                continue
            readings.append(Reading(scope=scope, at_ms=at_ms, values=values))
        return readings

    def _read_cpu(self) -> tuple[int | float | str | None, ...]:
        now = cpu_times((self._proc / "stat").read_text())
        percent = busy_percent(self._cpu, now) if self._cpu is not None else 0.0
        self._cpu = now
        return (percent, *load_averages((self._proc / "loadavg").read_text()))

    def _read_memory(self) -> tuple[int | float | str | None, ...]:
        return memory_values((self._proc / "meminfo").read_text())

    def _read_network(self) -> tuple[int | float | str | None, ...]:
        now_s, now = time.monotonic(), traffic((self._proc / "self/net/dev").read_text())
        before = self._traffic
        self._traffic = now_s, now
        if before is None:
            return now.rx_bytes, now.tx_bytes, 0.0, 0.0, 0.0, 0.0
        return (now.rx_bytes, now.tx_bytes, *rates(before[1], now, now_s - before[0]))


def cpu_times(stat: str) -> CpuTimes:
    """Return the ticks of `/proc/stat`. Source: proc(5); guest times are in those of user and nice already."""
    ticks = [int(field) for field in stat.split("\n", 1)[0].split()[1:9]]
    return CpuTimes(idle=ticks[3] + (ticks[4] if len(ticks) > 4 else 0), total=sum(ticks))


def busy_percent(before: CpuTimes, now: CpuTimes) -> float:
    """Return how much of the time between two looks all CPUs were busy."""
    total, idle = now.total - before.total, now.idle - before.idle
    if total <= 0:
        return 0.0
    return round(min(100.0, max(0.0, 100.0 * (1 - idle / total))), 2)


def load_averages(loadavg: str) -> tuple[float, float, float]:
    """Return the load averages over 1, 5 and 15 minutes."""
    one, five, fifteen = (float(field) for field in loadavg.split()[:3])
    return one, five, fifteen


def memory_values(meminfo: str) -> tuple[int | float, ...]:
    """Return KiB: total, available, used, percent used, swap total, swap free."""
    found = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in meminfo.splitlines())
        if rest.strip()
    }
    total = found["MemTotal"]
    available = found.get("MemAvailable", found.get("MemFree", 0))
    used = total - available
    percent = round(100.0 * used / total, 2) if total else 0.0
    return total, available, used, percent, found.get("SwapTotal", 0), found.get("SwapFree", 0)


def traffic(dev: str) -> Traffic:
    """Return the sums over the interfaces of `/proc/net/dev`, without the loopback."""
    sums = [0, 0, 0, 0]
    for line in dev.splitlines()[2:]:
        name, _, rest = line.partition(":")
        if name.strip() == "lo" or not rest:
            continue
        fields = [int(field) for field in rest.split()]
        for index, value in enumerate((fields[0], fields[8], fields[1], fields[9])):
            sums[index] += value
    return Traffic(*sums)


def rates(before: Traffic, now: Traffic, seconds: float) -> tuple[float, ...]:
    """Return bytes and packets a second, in and out; an interface that went away counts as nothing."""
    if seconds <= 0:
        return 0.0, 0.0, 0.0, 0.0
    return tuple(round(max(0, new - old) / seconds, 2) for old, new in zip(before, now, strict=True))


def _read_disk() -> tuple[int | float | str | None, ...]:
    found = os.statvfs(ROOT_MOUNT)
    total = found.f_blocks * found.f_frsize
    used = total - found.f_bfree * found.f_frsize
    percent = round(100.0 * used / total, 2) if total else 0.0
    return ROOT_MOUNT, total, used, found.f_bavail * found.f_frsize, percent
