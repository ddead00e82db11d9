"""When a probe has seen its condition often enough in a row. Pure: the shell observes, this counts.

Conditions are levels, told when they change, so a threshold of 1 triggers the moment the condition becomes
true; a higher one looks again every `interval_s`, as the format says.
"""

from dataclasses import dataclass

from protocol.messages import Probe


@dataclass(slots=True)
class ProbeState:
    """One probe of one attempt."""

    probe: Probe
    armed_at: float
    """Monotonic seconds from which on the condition counts."""
    is_true: bool = False
    detail: str = ""
    streak: int = 0
    next_check: float | None = None
    has_triggered: bool = False

    @classmethod
    def begin(cls, probe: Probe, now: float) -> "ProbeState":
        """A fresh state for an attempt that starts now."""
        return cls(probe, now + probe.delay_s)

    def observe(self, is_true: bool, detail: str, now: float) -> bool:
        """Takes a change of the condition; True when the probe triggers by it."""
        self.is_true, self.detail = is_true, detail
        if not is_true:
            self.streak, self.next_check = 0, None
            return False
        if now < self.armed_at:
            self.next_check = self.armed_at
            return False
        return self._check(now)

    def wake(self, now: float) -> bool:
        """Looks again if that is due; True when the probe triggers by it."""
        if self.next_check is None or now < self.next_check:
            return False
        return self._check(now)

    def _check(self, now: float) -> bool:
        self.streak += 1
        if self.streak < self.probe.threshold:
            # A zero interval would spin; the format's own tick was a second.
            self.next_check = now + max(self.probe.interval_s, 0.01)
            return False
        self.next_check = None
        if self.has_triggered:
            return False
        self.has_triggered = True
        return True
