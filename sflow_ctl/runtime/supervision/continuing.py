"""Brings the shell of a controller that takes over to where the killed one was, and says when that is done.

Called by `run/controller.py`, once its parts are open.
"""

from collections.abc import Iterator, Sequence

from protocol.text.signal_names import signal_name
from sflow_ctl.core.commands import AbandonNode, Command
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.resumed import Takeover, takeover_text
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.logs.waits import LogWaits
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.run.node_book import NodeBook
from sflow_ctl.runtime.run.output_collector import OutputCollector
from sflow_ctl.runtime.supervision.history import TakenOver


def resume_shell(left: TakenOver, nodes: NodeBook, outputs: OutputCollector, logs: LogWaits) -> None:
    """Give the parts of a controller what those of the killed one knew."""
    nodes.is_taken_over = True
    for hello in (*left.known.restarted, *(event.hello for event in left.known.joined.values())):
        nodes.joined(hello)
    run = left.scheduler.run
    outputs.values.update({task: values for task, values in run.outputs.items() if values})
    outputs.problems.update({task: list(texts) for task, texts in run.output_problems.items() if texts})
    for node, exited in left.exits:
        logs.expect(node, exited)


def continued(left: TakenOver, link: FleetLink, abandoned: set[int]) -> Iterator[Command]:
    """Yield the commands that are to be performed again; nodes that were given up are refused and added to `abandoned`."""
    yield from left.rebuilt.lost
    for command in left.rebuilt.again:
        if isinstance(command, AbandonNode):  # its processes were ended, as far as that is possible
            link.abandon(command.node, command.reason)
            abandoned.add(command.node)
        else:
            yield command


class TakeoverWatch:
    """Notes when all agents that were connected have reported to this controller, and records that it has taken over."""

    def __init__(
        self,
        left: TakenOver,
        plan: Plan,
        link: FleetLink,
        journal: Journal,
        log: RunLog,
        output: OutputService,
        earlier: Sequence[Takeover],
    ) -> None:
        """`earlier` are the takeovers before this one."""
        self.all: list[Takeover] = list(earlier)
        """The takeovers of the run so far."""
        self._left, self._plan, self._link = left, plan, link
        self._journal, self._log, self._output = journal, log, output
        self._is_recorded = False

    def look(self, now: float) -> None:
        """Record the takeover once no agent is missing that is not given up."""
        if self._is_recorded:
            return
        peers = self._link.peers
        if all(peers[node].has_joined or peers[node].is_abandoned for node in self._left.nodes):
            self.record(now)

    def record(self, now: float) -> None:
        """Record the takeover, and say it, once: at the latest when the run ends."""
        if self._is_recorded:
            return
        self._is_recorded = True
        peers, death = self._link.peers, self._left.death
        takeover = Takeover(
            incarnation=self._link.incarnation,
            signal=signal_name(death.signal) if death.signal else "",
            killed_wall_ns=death.wall_ns,
            tasks=self._left.live,
            took_s=round(now - death.at, 3),
            missing=tuple(
                self._plan.nodes[node].name for node in sorted(self._left.nodes) if not peers[node].has_joined
            ),
        )
        self.all.append(takeover)
        self._journal.takeover(takeover, now)
        text = takeover_text(takeover)
        self._log.warning(text)
        self._output.say(text)
