"""What a controller makes of ended agents, and what it does at the very end of a run: it waits for them, and reports the rest."""

import math
from collections.abc import Collection
from functools import partial

from msgspec.structs import replace

from protocol.messages.config import AgentConfig
from protocol.text.counted import counted
from sflow_ctl.core.actions.reconciliation import AGENTS_COUNTED_S
from sflow_ctl.core.events import AgentLost, NodeCleared, SchedulerEvent
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.runtime.fleet.fleet import AgentLauncher
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.fleet.local import AgentEnd, ReplacementOrder
from sflow_ctl.runtime.record.run_log import RunLog

AGENTS_END_WITHIN_S = 10.0
OTHERS_END_WITHIN_S = 3.0
"""The limit once a node is lost: srun may wait for it for ever, and all other agents have said goodbye."""


AGENTS_EVERY_S = 0.25
"""How often to look for the ends of agents of which no descriptor tells: those of a controller that was killed."""


REPLACED_AGAIN_AFTER_S = 20.0
"""A node is looked at, and its next agent joins, within that time; else the node is looked at again."""
FOLLOWS = "was killed with its guardian"


class AgentEnds:
    """The ends of agents' processes, and what they mean for the run."""

    def __init__(
        self,
        launcher: AgentLauncher,
        scheduler: Scheduler,
        abandoned: set[int],
        link: FleetLink,
        common: AgentConfig,
        log: RunLog,
    ) -> None:
        """Nodes that are lost by an end are added to `abandoned`."""
        self._launcher, self._scheduler, self._abandoned = launcher, scheduler, abandoned
        self._link, self._common, self._log = link, common, log
        self._next_look = 0.0
        self._begun: dict[int, list[float]] = {}
        """When a node was to get another agent from here, and not from its guardian."""

    def ended(self, now: float, *, has_news: bool) -> list[SchedulerEvent]:
        """Return the events of ends since the last call; look at once with `has_news`, else now and then."""
        if not has_news and now < self._next_look:
            return []
        self._next_look = now + AGENTS_EVERY_S
        events: list[SchedulerEvent] = []
        for end in self._launcher.ended():
            if end.may_be_replaced and self._replace(end.node, end, now):
                self._log.warning(f"node {self._scheduler.plan.nodes[end.node].name}: {end.how}")
                continue
            if self._scheduler.is_expected(end.node):
                reason = f"{end.how}{self._limit_text(end.node, now)}"
                events.append(AgentLost(node=end.node, reason=reason, is_cleared=end.is_cleared))
                self._abandoned.add(end.node)
            elif end.is_cleared:
                events.append(NodeCleared(node=end.node, survivors=end.survivors))
        for node in {*self._link.silences.silent, *self._scheduler.ending_nodes()}:
            if now > max(self._begun.get(node, ()), default=-math.inf) + REPLACED_AGAIN_AFTER_S:
                self._replace(node, None, now)
        return events

    def _replace(self, node: int, end: AgentEnd | None, now: float) -> bool:
        """Have the launcher start another agent on a node whose agent seems to be dead; return whether it tries.

        One that lives is left alone. `end` is what follows if that cannot be done.
        """
        left = self._common.restarts - self._followed(node, now)
        is_here = end is not None and end.is_here
        if left <= 0 or not self._scheduler.may_replace(node, is_here=is_here):
            return False
        make_config = partial(self._next_config, node, left - 1)
        order = ReplacementOrder(node, self._common.marker, end, left - 1, make_config)
        if not self._launcher.replace(order):
            return False
        self._begun.setdefault(node, []).append(now)
        return True

    def _followed(self, node: int, now: float) -> int:
        return self._scheduler.agents_followed(node, self._begun.get(node, ()), now)

    def _limit_text(self, node: int, now: float) -> str:
        """Return why no other agent takes the place of a node's, if that has happened too often; else nothing."""
        followed = self._followed(node, now)
        if not followed or followed < self._common.restarts:
            return ""
        minutes = AGENTS_COUNTED_S / 60
        return (
            f"; it was started again {counted(followed, 'time')} within {minutes:g} minutes, and is not again"
        )

    def _next_config(self, node: int, restarts: int) -> AgentConfig:
        admission = self._link.transport.admission
        assert admission is not None  # agents of jobs have keys
        pair = admission.renew(node)
        return replace(
            self._common,
            node=node,
            node_name=self._scheduler.plan.nodes[node].name,
            public_key=pair.public,
            secret_key=pair.secret,
            must_enrol=True,
            restarts=restarts,
            follows=FOLLOWS,
        )


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


def swept(marker: str) -> tuple[str, ...]:
    """End what a run has left on this machine; return what could not be ended."""
    from sflow_ctl.runtime.fleet.leftovers import sweep  # few runs lose a node

    return tuple(sweep(marker))
