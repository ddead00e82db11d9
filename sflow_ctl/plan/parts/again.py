"""When a task is started again: retries after failures, and restarts of services."""

from typing import Literal

import msgspec


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """After failure k (from 1) wait `interval_s * backoff ** (k - 1)`; at most `count` times."""

    count: int = 0
    interval_s: float = 0.0
    backoff: float = 1.0
    reasons: tuple[str, ...] = ()
    """Retry only failures with these reasons; empty means all but a failure probe's."""


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
