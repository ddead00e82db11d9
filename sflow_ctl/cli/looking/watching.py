"""Shows something again and again: in place on a terminal, when it has changed in a pipe or file. Called by `status --watch`."""

import sys
import time
from collections.abc import Callable

from sflow_ctl.cli.terminal.lines import write

EVERY_S = 1.0
_CLEAR = "\x1b[H\x1b[2J"
"""Cursor to the first position; erase the screen. Source: ECMA-48, CUP and ED."""


class ShownState:
    """What was shown last."""

    def __init__(self, *, in_place: bool) -> None:
        """`in_place`: a terminal's screen is cleared first each time."""
        self._in_place = in_place and sys.stdout.isatty()
        self._before: object = None

    def begins(self, news: object) -> bool:
        """Return whether `news` are to be shown now; what stood there before is gone then."""
        if self._in_place:
            write(_CLEAR, nl=False)
            return True
        is_new, self._before = news != self._before, news
        return is_new


def watch(show: Callable[[], bool]) -> None:
    """Call `show`, which returns whether there may be more, each second until there is not; Ctrl-C ends it too."""
    try:
        while show():
            time.sleep(EVERY_S)
    except KeyboardInterrupt:
        return
