"""Performs the polls of probes: many at once, none waiting for another.

`core.poll_schedule` decides when a poll begins and which one makes room; this module holds the running checks
and their results. Called by `watcher`.
"""

import resource
from collections.abc import Callable

from protocol.ids import ProbeKey, RankId
from sflow_agent.core.events import CheckObserved
from sflow_agent.core.poll_schedule import PollAgenda, PollSchedule
from sflow_agent.probes.checks.check import ActiveCheck, Done

BEGUN_PER_PASS = 32
"""Polls begun in one pass of the loop, before other sources have their turn: some 5 ms."""
SPARED_DESCRIPTORS = 256
"""Descriptors left for everything else, or three quarters if there are few.

A poll can wait, an agent without descriptors cannot work.
"""
Key = tuple[RankId, ProbeKey]


class ProbePoller:
    """The checks of this node that poll.

    `most` is how many may run at a time; None: by the number of descriptors.
    """

    def __init__(self, most: int | None = None) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        by_descriptors = max(1, soft - min(SPARED_DESCRIPTORS, soft * 3 // 4))
        self._agenda: PollAgenda[Key] = PollAgenda(by_descriptors if most is None else most)
        self._makers: dict[Key, Callable[[Done], ActiveCheck]] = {}
        self._active: dict[Key, ActiveCheck] = {}
        self._finished: list[tuple[Key, ActiveCheck, bool, str]] = []

    def add(
        self, key: Key, schedule: PollSchedule, timeout_s: float, new_check: Callable[[Done], ActiveCheck]
    ) -> None:
        """Start to poll, at the earliest when the schedule begins."""
        self._makers[key] = new_check
        self._agenda.add(key, schedule, timeout_s)

    def remove(self, key: Key) -> None:
        """Stop polling for a check."""
        self._makers.pop(key, None)
        self._agenda.remove(key)
        self._close(key)

    def owns(self, key: Key) -> bool:
        """Return whether a check is polled for here."""
        return key in self._agenda

    def poll_now(self, key: Key, now: float) -> None:
        """Take a sign that a check may hold now."""
        self._agenda.poll_now(key, now)

    def next_wakeup(self) -> float | None:
        """Return when `work` is due, or None."""
        return 0.0 if self._finished else self._agenda.next_wakeup()

    def work(self, now: float) -> list[CheckObserved]:
        """Begin polls that are due and end those that take too long; return the results."""
        for _ in range(BEGUN_PER_PASS):
            turns = self._agenda.next_turn(now)
            if not turns:
                break
            for key, action, why in turns:
                if action == "begin":
                    self._begin(key)
                else:
                    self._give_up(key, why)
        return self._conclude(now)

    def _begin(self, key: Key) -> None:
        check = self._active[key] = self._makers[key](
            lambda holds, text: self._finished.append((key, check, holds, text))
        )
        try:
            check.begin()
        except OSError as error:  # no descriptors or memory left: a later poll may have them
            check.close()
            self._finished.append((key, check, False, f"it cannot be checked: {error.strerror}"))

    def _give_up(self, key: Key, why: str) -> None:
        check = self._active[key]
        text = f"{check.doing} {why}"
        check.close()
        self._finished.append((key, check, False, text))

    def _conclude(self, now: float) -> list[CheckObserved]:
        finished, self._finished = self._finished, []
        seen = []
        for key, check, holds, text in finished:
            if self._active.get(key) is not check:
                continue  # it was removed, or ended at the same moment
            self._close(key)
            self._agenda.ended(key, holds, now)
            seen.append(CheckObserved(*key, holds, text, is_poll=True))
        return seen

    def _close(self, key: Key) -> None:
        check = self._active.pop(key, None)
        if check is not None:
            check.close()
