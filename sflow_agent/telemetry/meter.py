"""One measurement of a node: its ranks' processes, their windows, what the GPUs did meanwhile, packed when it is due.

Called in a thread of the agent's workers, one call at a time, and owns everything that it changes: a /proc that does not answer
delays nothing but the next measurement. `telemetry` decides when, and sends what is returned.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from protocol.ids import RankId
from protocol.machine.marks import RANK_MARKER
from protocol.machine.procfs import environment, lock_limit
from protocol.messages.telemetry import MarkedWindow, RankUse
from sflow_agent.telemetry.gpu_shares import GpuShares
from sflow_agent.telemetry.looks import GpuLook
from sflow_agent.telemetry.marks import MarkedRank
from sflow_agent.telemetry.meters import Meters, Sums
from sflow_agent.telemetry.owners import Owners
from sflow_agent.telemetry.processes import (
    descriptors_of,
    look_at,
    newest_pid,
    pids,
    pss_kib,
    traffic_of,
)
from sflow_agent.telemetry.rows import Key, Rows, Values

DESCRIPTORS_EVERY = 5
NODE_EVERY = 5
"""Measurements between two of what changes slowly or costs more."""
PSS_EVERY_S = 30.0
"""Between two looks at the shared memory of the same rank, if there is time for it."""
PSS_SHARE = 1000
"""The kernel walks all pages of a process for it: the pause after one is so many times what it took."""
_RANK = f"{RANK_MARKER}=".encode()


class KnownRank(Struct, frozen=True):
    """What a measurement must know of a rank."""

    gpus: tuple[int, ...]
    """By the plan."""
    marks: str
    """The path of the file with its marks."""


class Order(Struct, frozen=True):
    """One measurement that is wanted."""

    mains: dict[int, RankId]
    """The ranks that run, by their main processes."""
    known: Mapping[RankId, KnownRank]
    """Those ranks, and others that ran before."""
    steps: Mapping[int, RankId]
    """The job steps of the run that are known here, by their marks."""
    looks: tuple[GpuLook, ...] = ()
    """The GPUs, since the last measurement."""
    wants_newest: bool = False
    """Rows since the last block may be sent."""
    is_last: bool = False


class Measurement(Struct):
    """What came of one."""

    newest: bytes = b""
    wholes: list[bytes] = field(default_factory=list)
    windows: list[MarkedWindow] = field(default_factory=list)
    uses: dict[RankId, RankUse] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    cost_s: float = 0.0
    """Time of a CPU."""


class Meter:
    """The state of all measurements of one node."""

    def __init__(self, node_name: str) -> None:
        self._node = node_name
        self._labels = _node_labels()
        self._owners = Owners(os.getpid(), look_at, _marker_of, lock_limit)
        self.meters = Meters()
        self._shares = GpuShares()
        self._marked: dict[RankId, MarkedRank] = {}
        self._read_to_end: set[RankId] = set()
        """Ranks that have ended and are still known: their marks are complete."""
        self._rows = Rows(pause=lambda: time.sleep(0))
        self._newest_pid: int | None = None
        self._number = 0
        self._pss_at = 0.0
        self._pss_of: dict[RankId, float] = {}
        self._cost_us = 0

    def measure(self, order: Order) -> Measurement:
        """Measure now."""
        began_s = time.thread_time()
        made = Measurement()
        at_ms = time.time_ns() // 1_000_000
        self._find_processes(order)
        self.meters.take(self._sums())
        self._read_pss(time.monotonic())
        living = self.meters.living
        planned = {rank: order.known[rank].gpus for rank in living if rank in order.known}
        if order.looks:
            made.warnings += self._shares.take(order.looks, self._owners.owned, planned, self.meters.of)
        self._read_marks(order, made)
        if not order.is_last or order.looks or living:
            self._rows.add(at_ms, self._values(order), self._labels_of(order))
        for meter in self.meters.of.values():
            meter.pss_kib = None
        made.uses = self.meters.uses()
        if self._rows.is_full or order.is_last:
            whole = self._rows.whole()
            made.wholes += [whole] if whole else []
        elif order.wants_newest:
            made.newest = self._rows.newest()
        self._number += 1
        made.cost_s = time.thread_time() - began_s
        self._cost_us = round(made.cost_s * 1e6)
        return made

    # ------------------------------------------------------------------ processes

    def _find_processes(self, order: Order) -> None:
        newest = newest_pid()
        is_same = (
            newest is not None
            and newest == self._newest_pid
            and order.mains.keys() <= self._owners.owned.keys()
        )
        self._newest_pid = newest
        self._owners.update(None if is_same else pids(), order.mains, order.steps)

    def _sums(self) -> dict[RankId, Sums]:
        """Return the sums over the living processes of each rank."""
        sums: dict[RankId, Sums] = {}
        with_descriptors = self._number % DESCRIPTORS_EVERY == 0
        for pid, rank in list(self._owners.owned.items()):
            look = look_at(pid)
            if look is None:
                self._owners.gone(pid)
                continue
            if not self._owners.is_same(pid, look):
                continue
            traffic = traffic_of(pid)
            descriptors = descriptors_of(pid) if with_descriptors else None
            sums.setdefault(rank, Sums()).add(look, traffic, descriptors)
        return sums

    def _read_pss(self, now: float) -> None:
        """Read the shared memory of the rank for which that is due longest."""
        living = self.meters.living
        if not living or now < self._pss_at:
            return
        self._pss_of = {rank: at for rank, at in self._pss_of.items() if rank in living}
        rank = min(living, key=lambda one: self._pss_of.get(one, 0.0))
        if now - self._pss_of.get(rank, float("-inf")) < PSS_EVERY_S:
            return
        began = time.monotonic()
        found = [pss_kib(pid) for pid, owner in list(self._owners.owned.items()) if owner == rank]
        self._pss_at = now + (time.monotonic() - began) * PSS_SHARE
        known = [one for one in found if one is not None]
        self.meters.of[rank].pss_kib = sum(known) if known else None
        # Of one that has no processes yet, or none any more, the others come first, but it need not wait for long.
        self._pss_of[rank] = now if known else now - PSS_EVERY_S

    # ------------------------------------------------------------------ marks

    def _read_marks(self, order: Order, made: Measurement) -> None:
        """Read the marks of all ranks that are known; those of ranks that have ended a last time."""
        running = {*order.mains.values(), *self.meters.living}
        for rank, known in order.known.items():
            if rank not in self._marked and rank not in self._read_to_end:
                self._marked[rank] = MarkedRank(rank, known.marks)
        self._read_to_end &= order.known.keys()
        for rank, marked in list(self._marked.items()):
            is_over = order.is_last or rank not in running
            made.windows += marked.end() if is_over else marked.look()
            made.warnings += [marked.problem] if marked.problem else []
            if is_over:
                del self._marked[rank]
                self._read_to_end.add(rank)

    # ------------------------------------------------------------------ the row

    def _values(self, order: Order) -> dict[Key, Values]:
        values: dict[Key, Values] = {("task", name): row for name, row in self.meters.rows().items()}
        for look in order.looks:
            values["gpu", look.gpu.uuid] = look.values
        values["node", self._node] = self._node_values()
        return values

    def _node_values(self) -> dict[str, int | None]:
        values: dict[str, int | None] = {"cost_us": self._cost_us}
        if self._number % NODE_EVERY == 0:
            values["cpu_busy_ms"] = _busy_ms()
            values["memory_used_kib"] = _memory_used_kib()
        return values

    def _labels_of(self, order: Order) -> dict[Key, dict[str, str]]:
        labels: dict[Key, dict[str, str]] = {("node", self._node): self._labels}
        for look in order.looks:
            labels["gpu", look.gpu.uuid] = {"index": str(look.gpu.index), "name": look.gpu.name}
        return labels


def _marker_of(pid: int) -> str | None:
    for variable in environment(pid):
        if variable.startswith(_RANK):
            return variable[len(_RANK) :].decode(errors="replace")
    return None


def _node_labels() -> dict[str, str]:
    labels = {"cpus": str(os.cpu_count() or 1)}
    found = _meminfo()
    if "MemTotal" in found:
        labels["memory_kib"] = str(found["MemTotal"])
    return labels


def _busy_ms() -> int | None:
    """Return the time that all CPUs together were busy since the boot. Source: proc(5), stat."""
    try:
        with open("/proc/stat", "rb") as file:  # noqa: PTH123 - hot path
            ticks = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (sum(ticks) - sum(ticks[3:5])) * 1000 // os.sysconf("SC_CLK_TCK")


def _memory_used_kib() -> int | None:
    found = _meminfo()
    known = "MemTotal" in found and "MemAvailable" in found
    return found["MemTotal"] - found["MemAvailable"] if known else None


def _meminfo() -> dict[str, int]:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.splitlines()[:5])
    return {name: int(rest.split()[0]) for name, _, rest in lines if rest.split()}
