"""Draws `timeline.svg`: one panel for each kind of metric over the time of a report, and the tasks of that time. Pure.

Plain SVG without scripts or fonts of its own, so that every browser and editor shows it. Lines are averages over equal
parts of the time, with a band from the smallest to the largest value.
"""

from collections.abc import Iterator, Sequence
from html import escape

from msgspec import Struct, field

from protocol.text.ansi import printable_line
from sflow_ctl.report.monitor.amounts import number_text, scale_of
from sflow_ctl.report.monitor.metrics import SIMULATED, SYSTEM, MetricRow
from sflow_ctl.report.monitor.tally import MetricSeries, highest

WIDTH, LEFT, RIGHT = 1000, 64, 206
PANEL_HEIGHT, PANEL_GAP, HEAD_HEIGHT, FOOT_HEIGHT = 120, 40, 64, 34
BAR_HEIGHT, MAX_BARS, MAX_LEGEND, MAX_NAME = 16, 12, 8, 28
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5f00", "#444444")
"""Distinguishable with colour blindness. Source: Okabe and Ito, Color Universal Design; the last two are ours."""
_FONT = "font-family='Helvetica,Arial,sans-serif'"
_PLOT = WIDTH - LEFT - RIGHT


class Panel(Struct, frozen=True):
    """One part of the chart: the metrics that share an axis."""

    title: str
    metrics: tuple[str, ...]
    unit: str
    top: float | None = None
    """The end of the axis; None is the largest value."""


PANELS = (
    Panel("GPU utilization", ("gpu_utilization_pct",), "%", 100),
    Panel("GPU memory used", ("gpu_memory_used_mib",), "MiB"),
    Panel("GPU power", ("gpu_power_w",), "W"),
    Panel("GPU temperature", ("gpu_temperature_c",), "C"),
    Panel("CPU utilization", ("cpu_utilization_pct",), "%", 100),
    Panel("Load average", ("load_1m", "load_5m", "load_15m"), ""),
    Panel("Memory used", ("memory_used_pct",), "%", 100),
    Panel("Disk used", ("disk_used_pct",), "%", 100),
    Panel("Network", ("rx_bytes_per_s", "tx_bytes_per_s"), "bytes/s"),
)
_CHARTED = {metric for panel in PANELS for metric in panel.metrics}
_SHORT = {
    "load_1m": "1 min",
    "load_5m": "5 min",
    "load_15m": "15 min",
    "rx_bytes_per_s": "received",
    "tx_bytes_per_s": "sent",
}


class TaskBar(Struct, frozen=True):
    """The time of one task."""

    name: str
    begin_ms: int
    end_ms: int


class Chart(Struct):
    """The lines of one host's chart; `add` takes the rows of a report, `svg` draws them."""

    title: str
    begin_ms: int
    end_ms: int
    series: dict[tuple[str, str], MetricSeries] = field(default_factory=dict)
    is_simulated: bool = False

    def add(self, row: MetricRow) -> None:
        """Take in a row, if its metric is drawn."""
        if row.value is None or row.metric not in _CHARTED:
            return
        self.is_simulated = self.is_simulated or row.text == SIMULATED
        key = row.metric, row.resource
        if key not in self.series:
            self.series[key] = MetricSeries(self.begin_ms, self.end_ms)
        self.series[key].add(row.at_ms, row.value)

    def svg(self, tasks: Sequence[TaskBar]) -> str:
        """Return the drawing."""
        panels = [(panel, lines) for panel in PANELS if (lines := self._lines(panel))]
        bars = [one for one in tasks if one.end_ms >= self.begin_ms and one.begin_ms <= self.end_ms]
        parts: list[str] = []
        y = HEAD_HEIGHT
        if bars:
            parts += self._bars(bars, y)
            y += (min(len(bars), MAX_BARS) + (len(bars) > MAX_BARS)) * BAR_HEIGHT + PANEL_GAP
        for panel, lines in panels:
            parts += self._panel(panel, lines, y)
            y += PANEL_HEIGHT + PANEL_GAP
        if not panels:
            parts.append(_text(LEFT, y, "no values were measured in this time", size=13))
            y += PANEL_GAP
        bottom = y - PANEL_GAP
        axis = self._time_axis(HEAD_HEIGHT, bottom)  # below the lines and bars
        return "\n".join([*self._head(bottom + FOOT_HEIGHT), *axis, *parts, "</svg>\n"])

    def _lines(self, panel: Panel) -> list[tuple[str, MetricSeries]]:
        """Return (name, line) of a panel, in the order of metrics and resources."""
        keys = sorted((key for key in self.series if key[0] in panel.metrics), key=_order)
        keys.sort(key=lambda key: panel.metrics.index(key[0]))
        return [(_line_name(*key), self.series[key]) for key in keys]

    def _head(self, height: int) -> Iterator[str]:
        seconds = (self.end_ms - self.begin_ms) / 1000
        note = "   GPUs are simulated: busy means that a task has them" if self.is_simulated else ""
        yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" {_FONT}>'
        yield f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
        yield _text(16, 26, self.title, size=16, weight="bold")
        yield _text(16, 46, f"{_duration_text(seconds)}{note}", size=12, colour="#666666")

    def _bars(self, bars: Sequence[TaskBar], top: int) -> Iterator[str]:
        for number, bar in enumerate(bars[:MAX_BARS]):
            y = top + number * BAR_HEIGHT
            x0, x1 = self._x(bar.begin_ms), self._x(bar.end_ms)
            colour = COLOURS[number % len(COLOURS)]
            yield (
                f'<rect x="{x0:.1f}" y="{y}" width="{max(2.0, x1 - x0):.1f}" height="{BAR_HEIGHT - 5}" '
                f'rx="2" fill="{colour}" fill-opacity="0.55"/>'
            )
            yield _text(WIDTH - RIGHT + 12, y + 10, _cut(bar.name), size=11)
        yield _text(LEFT - 8, top + 10, "tasks", size=11, anchor="end", colour="#666666")
        if len(bars) > MAX_BARS:
            y = top + MAX_BARS * BAR_HEIGHT + 10
            more = f"and {len(bars) - MAX_BARS} more tasks"
            yield _text(WIDTH - RIGHT + 12, y, more, size=11, colour="#666666")

    def _panel(self, panel: Panel, lines: Sequence[tuple[str, MetricSeries]], y: int) -> Iterator[str]:
        largest = highest(one for _, one in lines)
        divisor, unit = scale_of(panel.unit, largest)
        top = (panel.top if panel.top is not None else _nice(largest / divisor)) or 1.0
        simulated = " (simulated)" if self.is_simulated and panel.metrics[0].startswith("gpu") else ""
        title = f"{panel.title}, {unit}" if unit else panel.title
        yield _text(LEFT, y - 8, f"{title}{simulated}", size=13, weight="bold")
        for part in (0.0, 0.5, 1.0):
            at = y + PANEL_HEIGHT * (1 - part)
            yield f'<line x1="{LEFT}" y1="{at:.1f}" x2="{LEFT + _PLOT}" y2="{at:.1f}" stroke="#dddddd"/>'
            yield _text(LEFT - 8, at + 4, number_text(top * part), size=11, anchor="end", colour="#444444")
        for number, (name, one) in enumerate(lines):
            colour = COLOURS[number % len(COLOURS)]
            yield from _drawn(one, colour, y, divisor * top)
            if number < MAX_LEGEND:
                at = y + 10 + number * 14
                x = WIDTH - RIGHT + 12
                yield f'<rect x="{x}" y="{at - 7}" width="14" height="4" fill="{colour}"/>'
                yield _text(x + 20, at, _cut(name), size=11)
        if len(lines) > MAX_LEGEND:
            at = y + 10 + MAX_LEGEND * 14
            yield _text(
                WIDTH - RIGHT + 12, at, f"and {len(lines) - MAX_LEGEND} more", size=11, colour="#666666"
            )

    def _time_axis(self, top: int, bottom: int) -> Iterator[str]:
        span_s = max(0.001, (self.end_ms - self.begin_ms) / 1000)
        step = _time_step(span_s)
        number = 0
        while number * step <= span_s * 1.0001:
            x = LEFT + _PLOT * (number * step / span_s)
            yield f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#eeeeee"/>'
            yield _text(
                x, bottom + 18, _seconds_text(number * step), size=11, anchor="middle", colour="#444444"
            )
            number += 1

    def _x(self, at_ms: int) -> float:
        span = max(1, self.end_ms - self.begin_ms)
        return LEFT + _PLOT * min(1.0, max(0.0, (at_ms - self.begin_ms) / span))


def _drawn(series: MetricSeries, colour: str, y: int, top: float) -> Iterator[str]:
    """Yield a line with its band; `top` is the value at the upper end of the panel."""

    def at(value: float) -> float:
        return y + PANEL_HEIGHT * (1 - min(1.0, max(0.0, value / top)))

    points = series.points()
    places = [(LEFT + _PLOT * part, tally) for part, tally in points]
    upper = [f"{x:.1f},{at(tally.high):.1f}" for x, tally in places]
    lower = [f"{x:.1f},{at(tally.low):.1f}" for x, tally in reversed(places)]
    if any(tally.high > tally.low for _, tally in places):
        yield f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" fill-opacity="0.15"/>'
    middle = " ".join(f"{x:.1f},{at(tally.average):.1f}" for x, tally in places)
    yield f'<polyline points="{middle}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round"/>'
    if len(places) <= 40:
        for x, tally in places:
            yield f'<circle cx="{x:.1f}" cy="{at(tally.average):.1f}" r="2.2" fill="{colour}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    anchor: str = "start",
    colour: str = "#111111",
    weight: str = "normal",
) -> str:
    shown = escape(printable_line(text))
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
        f'font-weight="{weight}">{shown}</text>'
    )


def _line_name(metric: str, resource: str) -> str:
    if resource == SYSTEM:
        return _SHORT.get(metric, "node")
    return resource if resource.startswith("/") else f"GPU {resource}"


def _order(key: tuple[str, str]) -> tuple[int, str]:
    return (int(key[1]) if key[1].isdigit() else 0, key[1])


def _cut(name: str) -> str:
    """Return a name that fits beside the plot; its end tells replicas apart."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME // 2]}...{name[3 - MAX_NAME // 2 :]}"


_ROUND = (1, 1.5, 2, 3, 4, 5, 6, 8)


def _nice(value: float) -> float:
    """Return the next round number: one of `_ROUND` times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{value:.0f}") - 1) if value >= 1 else 0.001
    while power < value:
        for factor in _ROUND:
            if power * factor >= value:
                return power * factor
        power *= 10
    return power


def _time_step(span_s: float) -> float:
    """Return the seconds between two labels: at most eight of them."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200):
        if span_s / step <= 8:
            return float(step)
    return 86400.0 * max(1, round(span_s / 86400 / 8))


def _duration_text(seconds: float) -> str:
    return f"{number_text(seconds)} s" if seconds < 120 else _seconds_text(seconds)


def _seconds_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min" if not rest else f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
