"""Minimum, average and maximum of every metric, over a whole report and along its time. Pure."""

import math
from collections.abc import Iterable

from msgspec import Struct, field

from sflow_ctl.report.monitor.metrics import MetricRow

SUMMARY_HEADER = "resource_type,metric_name,metric_unit,datapoints,min_value,avg_value,max_value"
BINS = 400


class Spread(Struct):
    """The values of one metric."""

    unit: str = ""
    count: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        self.total += value
        if value < self.low:  # not min(): called for every value
            self.low = value
        if value > self.high:
            self.high = value

    @property
    def average(self) -> float:
        """Return the average; there is at least one value."""
        return self.total / self.count


class SummaryTable:
    """All metrics of a report, by scope and name."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], Spread] = {}
        self.is_simulated = False
        """Some GPUs are only counted."""
        self.rows = 0

    def add(self, row: MetricRow) -> None:
        """Take in a row; texts only count."""
        self.rows += 1
        if row.value is None:
            return
        if row.text:
            self.is_simulated = True
        key = row.scope, row.metric
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Spread(row.unit)
        tally.add(row.value)

    def csv(self) -> str:
        """Return `summary.csv`; metrics of simulated GPUs have `gpu (simulated)` as their resource."""
        lines = [SUMMARY_HEADER]
        for (scope, metric), tally in sorted(self.tallies.items()):
            shown = f"{scope} (simulated)" if scope == "gpu" and self.is_simulated else scope
            numbers = f"{tally.count},{tally.low},{tally.average},{tally.high}"
            lines.append(f"{shown},{metric},{tally.unit},{numbers}")
        return "\n".join(lines) + "\n"


class MetricSeries(Struct):
    """One line of a chart: the values of a metric in equal parts of the report's time."""

    begin_ms: int
    end_ms: int
    bins: dict[int, Spread] = field(default_factory=dict)

    def add(self, at_ms: int, value: float) -> None:
        """Take in a value."""
        number = self._bin(at_ms)
        tally = self.bins.get(number)
        if tally is None:
            tally = self.bins[number] = Spread()
        tally.add(value)

    def _bin(self, at_ms: int) -> int:
        span = max(1, self.end_ms - self.begin_ms)
        return min(BINS - 1, max(0, (at_ms - self.begin_ms) * BINS // span))

    def points(self) -> list[tuple[float, Spread]]:
        """Return (part of the time from 0 to 1, values), in order."""
        return [((number + 0.5) / BINS, self.bins[number]) for number in sorted(self.bins)]


def highest(series: Iterable[MetricSeries]) -> float:
    """Return the largest value of several lines; 0 without any."""
    return max((tally.high for one in series for tally in one.bins.values()), default=0.0)
