"""Waits at the end of a run for the reader of a piped console. Called by `service.py`."""

import time
from collections.abc import Callable

from sflow_ctl.runtime.logs.consumers.console import ConsoleSink

LOOK_S = 0.2
"""How soon a signal ends the waiting."""


def drain(console: ConsoleSink, since: float, until: float, is_hurried: Callable[[], bool]) -> str | None:
    """Wait until everything is read, `until` is over, or the end is hurried.

    Returns None, or the sentence about output that was not read although it was waited for since `since`.
    """
    while not console.flush(LOOK_S):
        now = time.monotonic()
        if now >= until or is_hurried():
            return f"standard output was not read for {now - since:.0f} s: it is cut, the logs are not"
    return None
