"""Decides when to report what readiness probes wait for: soon after it changes, at most once a second per probe.

Pure.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from protocol.ids import ProbeKind, RankId
from protocol.messages.facts import ProbeWaiting
from sflow_agent.core.probes import ProbeState

REPORT_EVERY_S = 1.0
"""The first report waits as long: most services are ready before."""


class ProbeNews:
    """Reports that are due, of all probes of the node.

    `find` returns the state of a probe that is still awaited.
    """

    def __init__(self, find: Callable[[RankId, ProbeKind], ProbeState | None]) -> None:
        self._find = find
        self._due: list[tuple[float, RankId, ProbeKind]] = []
        """A heap; entries of probes that are no longer awaited are ignored."""

    def began(self, rank: RankId, state: ProbeState, now: float) -> None:
        """Schedule the first report of a probe."""
        state.say_at = now + REPORT_EVERY_S
        self.changed(rank, state, now)

    def changed(self, rank: RankId, state: ProbeState, now: float) -> None:
        """Schedule a report if the probe waits for something other than last reported."""
        if state.probe.kind == "readiness" and not state.is_news_due and state.missing() != state.said:
            state.is_news_due = True
            heappush(self._due, (max(now, state.say_at), rank, state.probe.kind))

    def next_wakeup(self) -> float | None:
        """Return when `take_due` is due, or None."""
        while self._due and self._find(*self._due[0][1:]) is None:
            heappop(self._due)
        return self._due[0][0] if self._due else None

    def take_due(self, now: float) -> list[ProbeWaiting]:
        """Return the reports that are due."""
        facts = []
        while self._due and self._due[0][0] <= now:
            _, rank, kind = heappop(self._due)
            state = self._find(rank, kind)
            if state is None:
                continue
            state.is_news_due = False
            missing = state.missing()
            if missing != state.said:
                state.said, state.say_at = missing, now + REPORT_EVERY_S
                facts.append(ProbeWaiting(attempt=rank.attempt, kind=state.probe.kind, detail=missing))
        return facts
