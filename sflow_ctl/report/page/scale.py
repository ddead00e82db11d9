"""The axis of time: positions in percent of its length, and marks at round times on several scales. Pure."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

ZOOMS = (1, 4, 16, 64)
"""How many times as wide as the page the chart may be made."""
MARKS = 8
"""On the width of the page."""
SCALES = (1, 4, 16)
"""Zooms with marks of their own; a wider axis has those of the last one."""
_STEPS = (
    *(base * 10**power for power in (-3, -2, -1) for base in (1, 2, 5)),
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400),
)


class Scale(Struct, frozen=True):
    """The time from 0 to the end of a run."""

    span_s: float

    def at(self, seconds: float) -> float:
        """Return a time as percent of the axis, with three decimals: 64 times as wide that is a pixel."""
        return round(min(100.0, max(0.0, seconds / self.span_s * 100)), 3)

    def marks(self, zoom: int) -> Iterator[tuple[float, str]]:
        """Yield (seconds, text) of the marks on an axis that is `zoom` times as wide as the page."""
        least = self.span_s / (MARKS * zoom)
        step = next((one for one in _STEPS if one >= least), None) or _whole_days(least)
        for number in range(int(self.span_s / step) + 1):
            if number * step <= self.span_s * 0.995:
                yield number * step, clock_text(number * step, step)


def _whole_days(least: float) -> float:
    return 86400.0 * (int(least / 86400) + 1)


def clock_text(seconds: float, step: float) -> str:
    """Return a time on an axis: `0.25`, `45 s`, `1:30`, `2:00:00`."""
    if step < 1:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def profile(spans: Sequence[tuple[float, float]], span_s: float, bins: int) -> list[float]:
    """Return how many of the spans there are in each of `bins` equal parts of the time, on average."""
    changes = [0.0] * (bins + 2)
    width = span_s / bins
    slopes = [0.0] * (bins + 2)
    for begin, end in spans:
        first, last = max(0.0, begin) / width, min(span_s, end) / width
        low, high = min(int(first), bins - 1), min(int(last), bins - 1)
        if low == high:
            slopes[low] += last - first
            continue
        slopes[low] += low + 1 - first
        slopes[high] += last - high
        changes[low + 1] += 1
        changes[high] -= 1
    level, found = 0.0, []
    for number in range(bins):
        level += changes[number]
        found.append(round(level + slopes[number], 3))
    return found
