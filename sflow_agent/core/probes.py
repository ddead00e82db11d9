"""When a probe has seen its conditions often enough in a row. Pure: the shell observes, this counts.

A port and a log tell when they change, so a threshold of 1 triggers the moment the condition becomes true; a higher
one looks again every `interval_s`, as the format says. What must be asked for (http, a program) comes as single
checks, and each counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.messages.checks import Condition, Probe

DETAIL_CHARACTERS = 500


def conditions(probe: Probe) -> dict[str, Condition]:
    """What a probe looks at, by key: its kind, or its kind and a number when it has parts."""
    if not probe.parts:
        return {probe.kind: probe}
    return {f"{probe.kind}/{index}": part for index, part in enumerate(probe.parts)}


def kind_of(key: str) -> str:
    """The kind of the probe that a condition belongs to."""
    return key.partition("/")[0]


def condition_of(probes: Sequence[Probe], key: str) -> tuple[Probe, Condition]:
    """The probe with this condition, and the condition. Raises: KeyError, StopIteration."""
    probe = next(probe for probe in probes if probe.kind == kind_of(key))
    return probe, conditions(probe)[key]


def not_seen(condition: Condition) -> str:
    """What is missing while nothing has been observed."""
    if condition.tcp_port is not None:
        if condition.tcp_host is None:
            return f"port {condition.tcp_port} is not listening"
        return f"{condition.tcp_host}:{condition.tcp_port} has not accepted a connection"
    if condition.log is not None:
        of = f" of {condition.log_task}" if condition.log_task is not None else ""
        times = f" {condition.log.count} times" if condition.log.count > 1 else ""
        return f'"{condition.log.pattern}" is not in the log{of}{times}'
    if condition.http is not None:
        return f"{condition.http.url} has not answered"
    return f"{condition.exec[0]} has not exited with 0"


@dataclass(slots=True)
class Streak:
    """How often in a row one condition was seen."""

    detail: str
    is_true: bool = False
    count: int = 0
    next_look: float | None = None


@dataclass(slots=True)
class ProbeState:
    """One probe of one attempt."""

    probe: Probe
    armed_at: float
    """Monotonic seconds from which on its conditions count."""
    streaks: dict[str, Streak] = field(default_factory=dict)
    has_triggered: bool = False
    detail: str = ""
    """What was seen, once it has triggered."""
    said: str | None = None
    """What is missing, as it was last reported."""
    say_at: float = 0.0
    is_news_due: bool = False

    @classmethod
    def begin(cls, probe: Probe, now: float) -> "ProbeState":
        """A fresh state for an attempt that starts now."""
        streaks = {key: Streak(not_seen(condition)) for key, condition in conditions(probe).items()}
        return cls(probe, now + probe.delay_s, streaks)

    @property
    def next_check(self) -> float | None:
        """When `wake` is due."""
        times = [streak.next_look for streak in self.streaks.values() if streak.next_look is not None]
        return min(times, default=None)

    def observe(self, key: str, is_true: bool, detail: str, now: float, is_check: bool = False) -> bool:
        """Takes a change of a condition, or the result of a check; True when the probe triggers by it."""
        streak = self.streaks[key]
        streak.is_true = is_true
        streak.detail = detail[:DETAIL_CHARACTERS] or streak.detail
        if not is_true:
            streak.count, streak.next_look = 0, None
        elif now < self.armed_at:
            streak.next_look = None if is_check else self.armed_at
        else:
            self._count(streak, now, is_check)
        return self._settle()

    def wake(self, now: float) -> bool:
        """Looks again where that is due; True when the probe triggers by it."""
        for streak in self.streaks.values():
            if streak.next_look is not None and streak.next_look <= now:
                self._count(streak, now, is_check=False)
        return self._settle()

    def missing(self) -> str:
        """What it waits for, in words: "HTTP 503", "1 of 3: port 8000 is not listening"."""
        missing = [self._missing(streak) for streak in self.streaks.values() if not self._is_met(streak)]
        if not self.probe.parts:
            return "".join(missing)
        if not self.probe.needs_all:
            return ", and ".join(missing)[:DETAIL_CHARACTERS]
        count = len(self.streaks)
        return f"{count - len(missing)} of {count} conditions: {', '.join(missing)}"[:DETAIL_CHARACTERS]

    def _missing(self, streak: Streak) -> str:
        if not streak.count:
            return streak.detail
        return f"{streak.detail}, {streak.count} of {self.probe.threshold} times in a row"

    def _is_met(self, streak: Streak) -> bool:
        return streak.count >= self.probe.threshold

    def _count(self, streak: Streak, now: float, is_check: bool) -> None:
        streak.count += 1
        is_looked_at = not is_check and not self._is_met(streak)
        # A zero interval would spin; the format's own tick was a second.
        streak.next_look = now + max(self.probe.interval_s, 0.01) if is_looked_at else None

    def _settle(self) -> bool:
        met = [streak for streak in self.streaks.values() if self._is_met(streak)]
        is_enough = len(met) == len(self.streaks) if self.probe.needs_all else bool(met)
        if self.has_triggered or not is_enough:
            return False
        self.has_triggered = True
        self.detail = "; ".join(streak.detail for streak in met)[:DETAIL_CHARACTERS]
        for streak in self.streaks.values():
            streak.next_look = None
        return True
