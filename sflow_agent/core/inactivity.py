"""Measures how long a rank has been inactive. Pure."""

from msgspec import Struct

LOOKS_PER_LIMIT = 20
"""Inactivity is noticed at most a twentieth of its limit late."""
SHORTEST_REST_S, LONGEST_REST_S = 0.05, 5.0


class InactivityTimer(Struct):
    """One kind of activity of one rank. `since` is when it was last seen, or the beginning."""

    limit_s: float
    since: float
    is_quiet: bool = False

    @property
    def rest_s(self) -> float:
        """The time between two looks."""
        return min(max(self.limit_s / LOOKS_PER_LIMIT, SHORTEST_REST_S), LONGEST_REST_S)

    def observe(self, has_life: bool, now: float) -> bool:
        """Take the result of a look; return True when it changes `is_quiet`."""
        if has_life:
            self.since = now
        was_quiet, self.is_quiet = self.is_quiet, now - self.since >= self.limit_s
        return self.is_quiet != was_quiet
