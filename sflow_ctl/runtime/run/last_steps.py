"""What a controller makes of ended agents, and what it does at the very end of a run: it waits for them, and reports the rest."""

from collections.abc import Collection

from sflow_ctl.core.events import AgentLost, NodeCleared, SchedulerEvent
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.runtime.fleet.fleet import AgentLauncher
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.record.run_log import RunLog

AGENTS_END_WITHIN_S = 10.0
OTHERS_END_WITHIN_S = 3.0
"""The limit once a node is lost: srun may wait for it for ever, and all other agents have said goodbye."""


AGENTS_EVERY_S = 0.25
"""How often to look for the ends of agents of which no descriptor tells: those of a controller that was killed."""


class AgentEnds:
    """The ends of agents' processes, and what they mean for the run."""

    def __init__(self, launcher: AgentLauncher, scheduler: Scheduler, abandoned: set[int]) -> None:
        """Nodes that are lost by an end are added to `abandoned`."""
        self._launcher, self._scheduler, self._abandoned = launcher, scheduler, abandoned
        self._next_look = 0.0

    def ended(self, now: float, *, has_news: bool) -> list[SchedulerEvent]:
        """Return the events of ends since the last call; look at once with `has_news`, else now and then."""
        if not has_news and now < self._next_look:
            return []
        self._next_look = now + AGENTS_EVERY_S
        events: list[SchedulerEvent] = []
        for end in self._launcher.ended():
            if self._scheduler.is_expected(end.node):
                events.append(AgentLost(node=end.node, reason=end.how, is_cleared=end.is_cleared))
                self._abandoned.add(end.node)
            elif end.is_cleared:
                events.append(NodeCleared(node=end.node, survivors=end.survivors))
        return events


def end_agents(
    scheduler: Scheduler, launcher: AgentLauncher, abandoned: Collection[int], log: RunLog
) -> list[int]:
    """Wait for the processes of the agents; return the nodes whose agents did not exit and were killed.

    `abandoned` are the lost nodes, of which some may have been swept meanwhile.
    """
    for node in scheduler.nodes_without_agent():
        launcher.kill(node)  # it has started nothing, and would wait for an answer
    limit_s = OTHERS_END_WITHIN_S if scheduler.has_lost_nodes() else AGENTS_END_WITHIN_S
    late = list(launcher.wait_all(limit_s))
    nodes = scheduler.plan.nodes
    for end in launcher.ended():
        if end.is_cleared and end.node in abandoned:
            log.info(f"node {nodes[end.node].name}: {end.how}")
    for node in late:
        log.warning(
            f"node {nodes[node].name}: its agent, or the job step of it, had not ended and was killed"
        )
    return late


def log_ignored_messages(log: RunLog, scheduler: Scheduler, link: FleetLink, foreign: int) -> None:
    """Log how many messages of agents did not count; `foreign` are those that the shell refused."""
    ignored = scheduler.ignored_messages()
    foreign += ignored.foreign
    if foreign:
        log.warning(f"ignored {foreign} messages of agents about processes that are not on their nodes")
    if ignored.stale:
        log.info(f"ignored {ignored.stale} messages about attempts that were over")
    for kind, count in sorted(link.refused().items()):
        log.warning(f"{count} {kind.replace('_', ' ')}")
