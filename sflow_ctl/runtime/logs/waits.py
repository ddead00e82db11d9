"""Exited ranks whose logs the scheduler waits for, and how long each log is. Used by the controller's loop."""

from protocol.ids import RankId
from protocol.messages.facts import RankExited
from sflow_ctl.core.events import LogArrived
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.run.node_book import NodeBook


class LogWaits:
    """Tells the output service what to expect, and the scheduler what has arrived."""

    def __init__(self, output: OutputService, link: FleetLink, nodes: NodeBook) -> None:
        self._output, self._link, self._nodes = output, link, nodes
        self.awaited: set[RankId] = set()
        """Exited ranks whose log the scheduler waits for."""

    def expect(self, node: int, exited: RankExited) -> None:
        """Tell the output service how long the log of an exited rank is."""
        is_spooling = self._nodes.is_spooling(node)
        if is_spooling is not None:
            self._output.expect(exited.rank, exited.log_bytes, is_spooling)

    def arrived(self) -> list[LogArrived]:
        """Return the logs that have become complete since the last call; pass on what searches have found."""
        for node, matched in self._output.matched():
            self._link.send(node, matched)
        arrived = [rank for rank in self._output.completed() if rank in self.awaited]
        self.awaited.difference_update(arrived)
        return [LogArrived(rank=rank) for rank in arrived]
