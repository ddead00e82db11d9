"""When a task is started again, and how many of its copies must complete: retries, restarts of services, quorums."""

from typing import Literal

import msgspec


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """After failure k (from 1) wait `interval_s * backoff ** (k - 1)`, `max_interval_s` at most; `count` times at most."""

    count: int = 0
    interval_s: float = 0.0
    backoff: float = 1.0
    max_interval_s: float | None = None
    reasons: tuple[str, ...] | None = None
    """Retry only failures with these reasons; None means all but a failure probe's."""
    transient_codes: tuple[int, ...] = (75,)
    """Exit statuses that are retried whatever `reasons` says. Source: sysexits.h, EX_TEMPFAIL."""
    fatal_codes: tuple[int, ...] = (64, 78)
    """Exit statuses that are never retried. Source: sysexits.h, EX_USAGE and EX_CONFIG."""
    infra_count: int = 0
    """New attempts after faults of nodes, beside `count`."""
    total_s: float | None = None
    """Limit of the time from the start of the first attempt to the end of the last one; None for no limit."""
    queue_s: float | None = None
    """Limit of the time in which no place is free for the next attempt; None for no limit."""
    avoids_nodes: bool = False
    """After a fault that may be the node's the next attempt starts on another one, if there is any."""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """How a service is restarted: on the same nodes and GPUs."""

    policy: Literal["on_failure", "always"] = "on_failure"
    count: int = 3
    """Restarts within `window_s`; one more failure is final."""
    backoff_s: float = 1.0
    """The delay before the first restart; doubled for each further one in the window, up to `MAX_BACKOFF_S`."""
    window_s: float | None = None
    """None means the whole run."""
    restarts_dependents: bool = False
    """Whether running dependants are restarted as well."""


MAX_BACKOFF_S = 60.0


class Quorum(msgspec.Struct, frozen=True, kw_only=True):
    """How many copies of a task must complete; failures of others do not count as the task's."""

    needed: int
    stops_if_unreachable: bool = True
    """Once too few can complete the others are stopped."""
    stops_when_reached: bool = False
    """Once enough have completed the others are stopped."""
    min_count: int = 0
    """As written, where the number of copies is known late: at least so many."""
    min_ratio: str = ""
    """Likewise: at least this part of them, as a fraction; empty for none."""

    def over(self, copies: int) -> "Quorum":
        """Return the quorum of a number of copies."""
        needed = self.min_count
        if self.min_ratio:
            from fractions import Fraction  # exact: 0.07 of 100 copies are 7

            needed = max(needed, -int(-Fraction(self.min_ratio) * copies // 1))
        return msgspec.structs.replace(self, needed=needed)
