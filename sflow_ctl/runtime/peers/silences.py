"""Judges which agents are silent, which stand still, and which are lost. Used by `link.py` once a second.

Time in which this process was suspended itself does not count as an agent's silence.
"""

from collections.abc import Sequence

from sflow_ctl.core.events import AgentLost, NodeStandsStill, SchedulerEvent
from sflow_ctl.runtime.peers.peer import LinkTimes, Peer

ROUND_S = 1.0
"""The interval of heartbeats, repetitions and checks for silence; one pass over the nodes."""
SILENT_S = 10.0
"""A node that has not been heard of for so long is worth a word: five heartbeats are missing."""
STILL_S = 5.0
"""A loop that has stood still for so long is worth a word."""
STANDSTILL_S = 3 * ROUND_S
"""A longer time between two rounds means that this process was suspended."""


class Silences:
    """What is known of the agents' silence. `peers` are the link's."""

    def __init__(self, peers: Sequence[Peer], times: LinkTimes, now: float) -> None:
        self.silent: dict[int, float] = {}
        """Nodes that were not heard of for over SILENT_S, and for how long."""
        self._peers = peers
        self._times = times
        self._still: dict[int, float] = {}
        """Nodes whose loop stands still, and for how long when that was said; it is said again after twice the time."""
        self._watched_since: float | None = None
        """The time of the first round; agents that have not joined then have `join_within_s` from there."""
        self._last_round = now

    def look(self, now: float) -> list[SchedulerEvent]:
        """Return which agents are lost, and which have begun or ceased to stand still."""
        self._discount_standstill(now)
        self._watched_since = self._watched_since or now
        events: list[SchedulerEvent] = []
        for node, peer in enumerate(self._peers):
            if peer.is_abandoned:
                continue
            reason = self._why_lost(peer, now)
            if reason is not None:
                events.append(AgentLost(node=node, reason=reason))
                continue
            if peer.has_joined and now - peer.last_heard > SILENT_S:
                self.silent[node] = now - peer.last_heard
            else:
                self.silent.pop(node, None)
            if peer.standstill.seconds >= STILL_S or node in self._still:
                events += self._note_standstill(node, peer)
        return events

    def _why_lost(self, peer: Peer, now: float) -> str | None:
        assert self._watched_since is not None
        silence, times = now - peer.last_heard, self._times
        if not peer.has_joined:
            is_late = now - self._watched_since > times.join_within_s
            return f"no message within {times.join_within_s:g} s" if is_late else None
        if silence > times.lost_after_s or peer.channel.is_broken:
            return f"silent for {silence:.0f} s"
        if peer.standstill.seconds > times.still_after_s:
            return f"its agent has stood still for {peer.standstill.seconds:.0f} s in {peer.standstill.doing}"
        return None

    def _note_standstill(self, node: int, peer: Peer) -> list[SchedulerEvent]:
        """Return the event of an agent that has begun, or ceased, to stand still, or has done so for long."""
        seconds, doing = peer.standstill
        if not seconds:
            return [NodeStandsStill(node=node, seconds=self._still.pop(node), is_over=True)]
        said = self._still.get(node, 0.0)
        if said and seconds < 2 * said:
            return []
        self._still[node] = seconds
        return [NodeStandsStill(node=node, seconds=seconds, doing=doing)]

    def _discount_standstill(self, now: float) -> None:
        """Subtract a time in which this process was suspended (a paused machine) from every agent's silence."""
        gap, self._last_round = now - self._last_round, now
        if gap > STANDSTILL_S:
            for peer in self._peers:
                peer.last_heard = min(now, peer.last_heard + gap)
            if self._watched_since is not None:
                self._watched_since += gap
