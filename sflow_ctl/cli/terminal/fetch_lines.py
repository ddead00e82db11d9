"""Shows the progress of artifacts: one redrawn line on a terminal; elsewhere a line at the start and one for each artifact."""

import sys
import time
from collections import deque
from collections.abc import Sequence

from protocol.text.ansi import printable_line
from protocol.text.counted import counted
from sflow_ctl.cli.terminal.columns import DEFAULT_COLUMNS, columns
from sflow_ctl.cli.terminal.lines import print_line, write
from sflow_ctl.runtime.artifacts.transfer import Progress, bytes_text

RATE_OVER_S = 5.0


class FetchLines:
    """Writes progress to standard output."""

    def __init__(self, is_terminal: bool | None = None) -> None:
        self._can_redraw = sys.stdout.isatty() if is_terminal is None else is_terminal
        self._shown: set[str] = set()
        self._is_line_open = False
        self._samples: deque[tuple[float, int]] = deque()
        self._has_begun = False

    def show(self, items: Sequence[Progress]) -> None:
        """Print the artifacts that have arrived since the last call, and on a terminal the progress of the others."""
        if not self._has_begun and not self._can_redraw:
            names = ", ".join(item.artifact for item in items)
            print_line(f"Fetching {counted(len(items), 'artifact')}: {names}")
        self._has_begun = True
        for item in items:
            if item.is_done and item.artifact not in self._shown:
                self._shown.add(item.artifact)
                self._clear()
                print_line(f"{'!' if item.is_warning else '✓'} {item.sentence()}")
        if self._can_redraw:
            self._draw([item for item in items if not item.is_done], time.monotonic())

    def close(self) -> None:
        """Clear the line for later output."""
        self._clear()

    def _draw(self, going_on: Sequence[Progress], now: float) -> None:
        if not going_on:
            return
        received = sum(item.received_bytes for item in going_on)
        if self._samples and received < self._samples[-1][1]:
            self._samples.clear()  # one has arrived, or begins again
        self._samples.append((now, received))
        while self._samples[0][0] < now - RATE_OVER_S:
            self._samples.popleft()
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        rate = (after - before) / (last - first) if last > first else 0.0
        line = printable_line(f"⇣ {bytes_text(rate)}/s  " + "  ".join(map(_how_far, going_on)))
        width = (columns() or DEFAULT_COLUMNS) - 1
        write(f"\r\x1b[K{line if len(line) <= width else line[: width - 3] + '...'}", nl=False)
        self._is_line_open = True

    def _clear(self) -> None:
        if self._is_line_open:
            write("\r\x1b[K", nl=False)
            self._is_line_open = False


def _how_far(item: Progress) -> str:
    size = bytes_text(item.received_bytes)
    if item.total_bytes:
        size = f"{size}/{bytes_text(item.total_bytes)} {100 * item.received_bytes // item.total_bytes}%"
    return f"{item.artifact} {size} {item.note}".rstrip()
