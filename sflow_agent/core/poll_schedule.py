"""Decides when checks that poll are made: each by its own schedule, and how many at a time. Pure.

A readiness probe's interval is an upper limit, not the wanted delay. So at first, and again whenever there is
a sign that the result may have changed, a check is eager: it repeats after a rest that grows with the time
that has passed, up to the interval. A server that is up after a minute is seen 3 s late at most, after a
second 50 ms, for some 150 checks in all.

Also how long a rank has been inactive, which looks as often decide.

`PollAgenda` alone decides about times: `probes.poller` carries them out, `core.probes` counts the results.
"""

import itertools
import math
from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, Literal, NamedTuple, TypeVar

from msgspec import Struct

MIN_INTERVAL_S = 0.05
"""A zero interval would spin."""
RESTS_PER_AGE = 0.05
"""The length of an eager rest, as a part of the time since the eagerness began."""
CROWD_S = 0.0005
"""Additional rest of an eager check for each other waiting check: all of them together take half a processor."""
PATIENCE_S = 1.0
"""The time that every check may take, however many there are."""
TOO_LATE_S = 5.0
"""A look that comes so much too late says nothing about the time before it."""
LATER_S = 0.05
"""When a check that had no room is tried again."""

K = TypeVar("K", bound=Hashable)


class PollSchedule(Struct):
    """The times of one check. `due` is when the next poll begins."""

    interval_s: float
    floor_s: float
    """The shortest rest between two eager polls."""
    due: float
    eager_since: float | None = None
    began: float = 0.0

    def poll_now(self, now: float) -> None:
        """Take a sign that the check may hold now."""
        self.eager_since = now
        self.due = min(self.due, now)

    def begin(self, now: float) -> None:
        """Note that a poll begins."""
        self.began = now

    def end(self, holds: bool, now: float, crowd_s: float = 0.0) -> None:
        """Set the next poll after one that has ended.

        `crowd_s` is a rest that depends on the number of others.
        """
        interval_s = max(self.interval_s, MIN_INTERVAL_S)
        regular = max(self.began + interval_s, now)
        if holds:  # further ones in a row are counted at the interval
            self.eager_since = None
        if self.eager_since is None:
            self.due = regular
            return
        age_s = now - self.eager_since
        rest_s = max(self.floor_s, crowd_s, age_s * RESTS_PER_AGE, now - self.began)
        self.due = min(now + rest_s, regular)
        if rest_s >= interval_s:
            self.eager_since = None


class Turn(NamedTuple, Generic[K]):
    """What to do with a check now: begin a poll, or end the running one and report it as failed."""

    key: K
    action: Literal["begin", "give_up"]
    why: str = ""
    """Completes the sentence of a poll that is ended early: "within 5 s"."""


class _Entry(Struct):
    schedule: PollSchedule
    timeout_s: float
    not_before: float
    wake_at: float = 0.0


class PollAgenda(Generic[K]):
    """All checks of a node that poll, of which at most `most` run at a time.

    A stuck poll keeps its place until its own timeout and delays no other. When there are more checks than
    places, the poll that has taken longest is ended, once it has had `PATIENCE_S`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[K, _Entry] = {}
        self._under_way: dict[K, None] = {}
        """In the order in which they began."""
        self._heap: list[tuple[float, int, K]] = []
        """An entry whose time differs from its check's `wake_at` is outdated."""
        self._number = itertools.count()

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def add(self, key: K, schedule: PollSchedule, timeout_s: float) -> None:
        """Schedule the polls of a check, the first one when its schedule begins."""
        self._entries[key] = entry = _Entry(schedule, timeout_s, not_before=schedule.due)
        self._wake(key, entry, schedule.due)

    def remove(self, key: K) -> None:
        """Forget a check and its running poll."""
        self._entries.pop(key, None)
        self._under_way.pop(key, None)

    def poll_now(self, key: K, now: float) -> None:
        """Take a sign that a check may hold now."""
        entry = self._entries[key]
        entry.schedule.poll_now(max(now, entry.not_before))
        if key not in self._under_way:
            self._wake(key, entry, entry.schedule.due)

    def next_wakeup(self) -> float | None:
        """Return when `next_turn` is due, or None."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def next_turn(self, now: float) -> list[Turn[K]]:
        """Return what to do for the next check that is due, in order; None when none is.

        The caller reports each poll that ends, also one that it ends early, by `ended`.
        """
        while (at := self.next_wakeup()) is not None and at <= now:
            key = heappop(self._heap)[2]
            entry = self._entries[key]
            if key in self._under_way:
                del self._under_way[key]
                return [Turn(key, "give_up", f"within {entry.timeout_s:g} s")]
            turns = self._room(now)
            if turns is None:
                self._wake(key, entry, now + LATER_S)
                continue
            self._under_way[key] = None
            entry.schedule.begin(now)
            self._wake(key, entry, now + entry.timeout_s)
            return [*turns, Turn(key, "begin")]
        return []

    def ended(self, key: K, holds: bool, now: float) -> None:
        """Plan the next poll of a check whose poll has ended."""
        self._under_way.pop(key, None)
        entry = self._entries[key]
        entry.schedule.end(holds, now, CROWD_S * (len(self._entries) - len(self._under_way)))
        self._wake(key, entry, entry.schedule.due)

    def _room(self, now: float) -> list[Turn[K]] | None:
        """Return the turn that makes room for one more poll, or None when it has to wait."""
        if len(self._under_way) < self._most:
            return []
        oldest = next(iter(self._under_way))
        if now - self._entries[oldest].schedule.began < PATIENCE_S:
            return None
        del self._under_way[oldest]
        self._entries[oldest].wake_at = math.inf  # until its end is reported
        return [Turn(oldest, "give_up", f"and had to make room for one of {len(self._entries)} checks")]

    def _wake(self, key: K, entry: _Entry, at: float) -> None:
        entry.wake_at = at
        heappush(self._heap, (at, next(self._number), key))

    def _drop_stale(self) -> None:
        while self._heap:
            at, _, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry.wake_at == at:
                return
            heappop(self._heap)


LOOKS_PER_LIMIT = 20
"""Inactivity is noticed at most a twentieth of its limit late."""
SHORTEST_REST_S, LONGEST_REST_S = 0.05, 5.0


class InactivityTimer(Struct):
    """One kind of activity of one rank. `since` is when it was last seen, or the beginning."""

    limit_s: float
    since: float
    is_quiet: bool = False
    looked: float | None = None

    @property
    def rest_s(self) -> float:
        """The time between two looks."""
        return min(max(self.limit_s / LOOKS_PER_LIMIT, SHORTEST_REST_S), LONGEST_REST_S)

    def observe(self, has_life: bool, now: float) -> bool:
        """Take the result of a look; return True when it changes `is_quiet`."""
        late_s = 0.0 if self.looked is None else now - self.looked - self.rest_s
        self.looked = now
        if late_s > TOO_LATE_S:
            self.since += late_s  # the agent did not run, nor did the rank, as far as it knows
        if has_life:
            self.since = now
        was_quiet, self.is_quiet = self.is_quiet, now - self.since >= self.limit_s
        return self.is_quiet != was_quiet
