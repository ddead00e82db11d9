"""When something that must be asked for is asked next. Pure.

A readiness probe's interval is what a person allows, not how late they want to know. So at first, and again
whenever there is a sign that the answer may have changed, it is asked eagerly: after a rest that grows with the
time that has passed, up to the interval. What comes up after a minute is seen 3 s late at most, after a second 50 ms,
for some 150 questions in all.
"""

from dataclasses import dataclass

MIN_INTERVAL_S = 0.05
"""A zero interval would spin."""
RESTS_PER_AGE = 0.05
"""Of the time since the eagerness began: how long an eager rest is."""


@dataclass(slots=True)
class PollSchedule:
    """The times of one condition's checks. `due` is when the next one begins."""

    interval_s: float
    floor_s: float
    """The shortest rest between two eager checks."""
    due: float
    eager_since: float | None = None
    began: float = 0.0

    def poll_now(self, now: float) -> None:
        """There is a sign that it may hold now."""
        self.eager_since = now
        self.due = min(self.due, now)

    def begin(self, now: float) -> None:
        """A check begins."""
        self.began = now

    def end(self, holds: bool, now: float, crowd_s: float = 0.0) -> None:
        """It has ended. `crowd_s` is a rest that the number of others asks for."""
        interval_s = max(self.interval_s, MIN_INTERVAL_S)
        regular = max(self.began + interval_s, now)
        if holds:  # more of them in a row are counted by the interval
            self.eager_since = None
        if self.eager_since is None:
            self.due = regular
            return
        age_s = now - self.eager_since
        rest_s = max(self.floor_s, crowd_s, age_s * RESTS_PER_AGE, now - self.began)
        self.due = min(now + rest_s, regular)
        if rest_s >= interval_s:
            self.eager_since = None
