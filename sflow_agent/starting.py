"""Starts ranks, with their files and on the ports of their tasks. Called by `performer`.

What few ranks need is imported for them. Also the parts of an agent that every run needs, with which it is made.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from protocol.ids import RankId
from protocol.messages.config import AgentConfig
from protocol.messages.facts import FromAgent, Leased
from protocol.messages.node import Inventory
from protocol.messages.orders import Lease
from protocol.messages.rank_spec import RankSpec
from sflow_agent.core.commands import DropPorts, TakeBackPorts, TakePorts
from sflow_agent.core.events import AgentEvent, PortsTaken, ProcessFailed
from sflow_agent.core.rank import Rank
from sflow_agent.descriptors import Descriptors
from sflow_agent.link import ControllerLink
from sflow_agent.logs.follower import LogFollower
from sflow_agent.logs.spool import IndexEntry, SpoolIndex
from sflow_agent.node.memory_events import MemoryEvents
from sflow_agent.probes.watcher import ProbeWatcher
from sflow_agent.processes.spawn import Spawner, SpawnError
from sflow_agent.processes.table import Processes
from sflow_agent.worker import Workers

if TYPE_CHECKING:
    from sflow_agent.monitor.monitoring import Monitoring
    from sflow_agent.port_leases import PortLeases
    from sflow_agent.telemetry.telemetry import NodeTelemetry


class Parts(Struct, frozen=True, kw_only=True):
    """The parts of an agent that every run needs, and how it reports."""

    config: AgentConfig
    inventory: Inventory
    spool_index: SpoolIndex | None
    """None where logs are written to the run directory, which the controller shares."""
    ranks: Mapping[RankId, Rank]
    """The core's records, read-only."""
    descriptors: Descriptors
    link: ControllerLink
    workers: Workers
    spawner: Spawner
    processes: Processes
    logs: LogFollower
    probes: ProbeWatcher
    memory: MemoryEvents
    report: Callable[[FromAgent], None]
    warn: Callable[[str], None]
    """Warns the user, once for each text."""


class RankStarter:
    """Starts ranks. `watchers` hear of each."""

    def __init__(self, parts: Parts, watchers: "Sequence[Monitoring | NodeTelemetry]") -> None:
        self._parts, self._watchers = parts, watchers
        self._leases: PortLeases | None = None

    def start(self, spec: RankSpec, now: float) -> AgentEvent:
        """Start a rank; return how that went."""
        parts = self._parts
        path = parts.spawner.log_path(spec.log)
        if spec.earlier_log is not None:
            earlier = parts.spawner.log_path(spec.earlier_log)
            parts.logs.renamed(path, earlier)
            for watcher in self._watchers:
                watcher.renamed(path, earlier)
        try:
            spec = _with_files(spec, path)
        except SpawnError as error:
            return ProcessFailed(spec.rank, error.errno, error.reason)
        if self._leases is not None:
            conflict = self._leases.hand_over(spec.rank.attempt.task, str(spec.rank.attempt))
            if conflict:
                return ProcessFailed(spec.rank, errno.EADDRINUSE, conflict, port_conflict=conflict)
        if parts.spool_index is not None:
            parts.spool_index.note(IndexEntry(spec.rank, spec.log, spec.earlier_log))
        outcome = parts.processes.start(spec)
        if self._watchers and not isinstance(outcome, ProcessFailed):
            for watcher in self._watchers:
                watcher.started(spec, path, now)
        is_spool = parts.spool_index is not None
        is_streamed = spec.stream or is_spool
        if is_streamed and not isinstance(
            outcome, ProcessFailed
        ):  # otherwise it has no log that would ever end
            is_read_again = spec.success is not None or bool(self._watchers)
            parts.logs.stream(spec.rank, path, is_spool, now, spec.log, is_read_again=is_read_again)
        return outcome

    def lease(self, command: TakePorts | TakeBackPorts | DropPorts) -> Sequence[AgentEvent]:
        """Take ports for a task, or free them; those of a task that never leased any are none."""
        if isinstance(command, TakePorts):
            return [PortsTaken(self._take_ports(command.order))]
        if self._leases is None:
            return ()
        if isinstance(command, TakeBackPorts):
            self._leases.take_back(command.task)
        else:
            self._leases.drop(command.task)
        return ()

    def _take_ports(self, order: Lease) -> Leased:
        if self._leases is None:
            from sflow_agent.port_leases import PortLeases

            self._leases = PortLeases(f"{self._parts.config.run_id} {self._parts.config.node}")
            self._parts.processes.find_port_conflict = self._port_conflict
        leased = self._leases.take(order)
        if self._leases.warning:
            self._parts.warn(self._leases.warning)
        return leased

    def _port_conflict(self, rank: RankId) -> str:
        assert self._leases is not None
        return self._leases.port_conflict(rank.attempt.task, str(rank.attempt))


def _with_files(spec: RankSpec, log: str) -> RankSpec:
    """Return the rank with its files written. Raises: SpawnError."""
    if not spec.files:
        return spec
    from sflow_agent.files.task_files import with_files  # few tasks have any

    return with_files(spec, log)
