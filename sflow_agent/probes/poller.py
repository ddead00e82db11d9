"""ProbeWatcher that must be asked for, each at its own schedule: many checks under way at once, none waiting for another.

A check that is stuck holds a descriptor until its own timeout, and nobody else's time. When there are more of them
than descriptors, the one that has waited longest makes room.
"""

import itertools
import resource
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from protocol.ids import ProbeKey, RankId
from sflow_agent.core.events import CheckObserved
from sflow_agent.core.poll_schedule import PollSchedule
from sflow_agent.probes.checks.check import ActiveCheck, Done

BEGUN_PER_PASS = 32
"""Checks begun before the loop looks at everything else again: some 5 ms."""
CROWD_S = 0.0005
"""Rest of an eager check for each other that waits for its turn: all of them together take half a processor."""
PATIENCE_S = 1.0
"""How long every check may take, however many there are."""
LATER_S = 0.05
SPARED_DESCRIPTORS = 256
"""For everything else, or three quarters where there are only a few: a check can wait, an agent without any cannot work."""
Key = tuple[RankId, ProbeKey]


@dataclass(slots=True)
class PolledCheck:
    """One condition, and its check when one is under way."""

    schedule: PollSchedule
    timeout_s: float
    new_check: Callable[[Done], ActiveCheck]
    not_before: float
    wake_at: float = 0.0
    trial: ActiveCheck | None = None


class ProbePoller:
    """All conditions of the node that must be asked for."""

    def __init__(self) -> None:
        self._checks: dict[Key, PolledCheck] = {}
        self._under_way: dict[Key, None] = {}
        """In the order in which they began."""
        self._agenda: list[tuple[float, int, Key]] = []
        """A heap; an entry whose time is not its check's `wake_at` any more means nothing."""
        self._number = itertools.count()
        self._finished: list[tuple[Key, ActiveCheck, bool, str]] = []
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(1, soft - min(SPARED_DESCRIPTORS, soft * 3 // 4))

    def add(
        self, key: Key, schedule: PollSchedule, timeout_s: float, new_check: Callable[[Done], ActiveCheck]
    ) -> None:
        """Begins to ask, at the earliest when the schedule says."""
        self._checks[key] = check = PolledCheck(schedule, timeout_s, new_check, not_before=schedule.due)
        self._wake(key, check, schedule.due)

    def remove(self, key: Key) -> None:
        """Nobody wants to know any more."""
        check = self._checks.pop(key, None)
        self._under_way.pop(key, None)
        if check is not None and check.trial is not None:
            check.trial.close()

    def owns(self, key: Key) -> bool:
        """True for a condition that is asked for here."""
        return key in self._checks

    def poll_now(self, key: Key, now: float) -> None:
        """There is a sign that the condition may hold now."""
        check = self._checks[key]
        check.schedule.poll_now(max(now, check.not_before))
        if check.trial is None:
            self._wake(key, check, check.schedule.due)

    def next_wakeup(self) -> float | None:
        """When `work` has something to do."""
        if self._finished:
            return 0.0
        self._drop_stale()
        return self._agenda[0][0] if self._agenda else None

    def work(self, now: float) -> list[CheckObserved]:
        """Begins what is due and gives up what takes too long; returns what has come of it."""
        for _ in range(BEGUN_PER_PASS):
            self._drop_stale()
            if not self._agenda or self._agenda[0][0] > now:
                break
            key = heappop(self._agenda)[2]
            check = self._checks[key]
            if check.trial is None:
                self._begin(key, check, now)
            else:
                self._give_up(key, check.trial, f"within {check.timeout_s:g} s")
        return self._conclude(now)

    def _begin(self, key: Key, check: PolledCheck, now: float) -> None:
        if len(self._under_way) >= self._most and not self._make_room(now):
            self._wake(key, check, now + LATER_S)
            return
        check.schedule.begin(now)
        trial = check.trial = check.new_check(
            lambda holds, text: self._finished.append((key, trial, holds, text))
        )
        self._under_way[key] = None
        self._wake(key, check, now + check.timeout_s)
        try:
            trial.begin()
        except OSError as error:  # no descriptors or memory left: the next one may have them
            trial.close()
            self._finished.append((key, trial, False, f"it cannot be checked: {error.strerror}"))

    def _make_room(self, now: float) -> bool:
        """Gives up the oldest check, if it has had its time."""
        oldest = next(iter(self._under_way))
        check = self._checks[oldest]
        if check.trial is None or now - check.schedule.began < PATIENCE_S:
            return False
        self._give_up(oldest, check.trial, f"and had to make room for one of {len(self._checks)} checks")
        return True

    def _give_up(self, key: Key, trial: ActiveCheck, how: str) -> None:
        text = f"{trial.doing} {how}"
        trial.close()
        self._under_way.pop(key, None)
        self._finished.append((key, trial, False, text))

    def _conclude(self, now: float) -> list[CheckObserved]:
        finished, self._finished = self._finished, []
        seen = []
        for key, trial, holds, text in finished:
            check = self._checks.get(key)
            if check is None or check.trial is not trial:
                continue  # not wanted any more, or given up in the same moment
            trial.close()
            check.trial = None
            self._under_way.pop(key, None)
            check.schedule.end(holds, now, CROWD_S * (len(self._checks) - len(self._under_way)))
            self._wake(key, check, check.schedule.due)
            seen.append(CheckObserved(*key, holds, text, is_poll=True))
        return seen

    def _wake(self, key: Key, check: PolledCheck, at: float) -> None:
        check.wake_at = at
        heappush(self._agenda, (at, next(self._number), key))

    def _drop_stale(self) -> None:
        while self._agenda:
            at, _, key = self._agenda[0]
            check = self._checks.get(key)
            if check is not None and check.wake_at == at:
                return
            heappop(self._agenda)
