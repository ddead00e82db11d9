"""What the chart library draws, as data for the page's script: lines of usage over time, values over swept variables. Pure.

One object of columns for each chart. The script chooses nothing: names, colours, units and the order are decided here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from sflow_ctl.report.page.markup import Markup, tag
from sflow_ctl.report.run_report.model import Plot, RunReport, UsageReport, UsageSeries, shortened

COLOURS = 8
"""Colours of lines in the style; of more lines the rest are grey, with one for their average."""
_TITLES = {
    "cpu": "CPU use",
    "memory": "Memory use",
    "gpu": "GPU use",
    "gpu_memory": "GPU memory",
    "power": "GPU power",
    "task_cpu": "CPU of the busiest tasks",
    "task_memory": "Memory of the largest tasks",
}
MANY = -1
"""The colour of one of many lines."""


class ChartLine(Struct, frozen=True):
    """One line."""

    name: str
    colour: int
    y: tuple[float | None, ...]


class PageChart(Struct, frozen=True, kw_only=True):
    """One chart. `labels` are the texts at the places of an axis that is not one of numbers."""

    id: str
    title: str
    axis: str
    """`time`, `number` or `place`."""
    over: str
    unit: str
    x: tuple[float, ...]
    labels: tuple[str, ...] = ()
    lines: tuple[ChartLine, ...]
    is_percent: bool = False


def usage_charts(usage: UsageReport, name: str) -> list[PageChart]:
    """Return a chart for each metric that has courses."""
    charts = []
    for metric, title in _TITLES.items():
        series = [one for one in usage.series if one.metric == metric and one.values]
        if not series or not usage.at_s:
            continue
        lines = [
            ChartLine(series_name(one), number if len(series) <= COLOURS else MANY, one.values)
            for number, one in enumerate(series)
        ]
        if len(series) > COLOURS:
            lines.append(ChartLine("average", 0, _mean([one.values for one in series])))
        unit = series[0].unit
        charts.append(
            PageChart(
                id=f"{name}u-{metric}",
                title=title,
                axis="time",
                over="time",
                unit=unit,
                x=usage.at_s,
                lines=tuple(lines),
                is_percent=unit == "%",
            )
        )
    return charts


def plot_charts(plots: Sequence[Plot], name: str) -> list[PageChart]:
    """Return a chart for each plot of a sweep."""
    charts = []
    for number, plot in enumerate(plots):
        places = range(len(plot.places))
        charts.append(
            PageChart(
                id=f"{name}p-{number}",
                title=plot.value,
                axis="number" if plot.is_numeric else "place",
                over=plot.over,
                unit="",
                x=tuple(map(float, plot.places if plot.is_numeric else places)),
                labels=() if plot.is_numeric else plot.places,
                lines=tuple(
                    ChartLine(one.name, at % COLOURS, one.values) for at, one in enumerate(plot.series)
                ),
            )
        )
    return charts


def series_name(series: UsageSeries) -> str:
    """Return `n07`, `n07 GPU 3`, or the name of a task's attempt."""
    if series.task is not None:
        return series.task
    return series.node if series.gpu is None else f"{series.node} GPU {series.gpu}"


def _mean(columns: Sequence[Sequence[float | None]]) -> tuple[float | None, ...]:
    found: list[float | None] = []
    for row in zip(*columns, strict=True):
        known = [one for one in row if one is not None]
        found.append(shortened(sum(known) / len(known)) if known else None)
    return tuple(found)


def chart_places(charts: Iterable[PageChart]) -> list[Markup]:
    """Return the elements that the script draws the charts into."""
    return [
        tag(
            "figure",
            tag("figcaption", one.title, tag("small", f" {one.unit}" if one.unit else f" over {one.over}")),
            tag(
                "div",
                class_="plot",
                id=one.id,
                tabindex="0",
                role="img",
                aria_label=f"{one.title}: {', '.join(line.name for line in one.lines[:COLOURS])}",
            ),
            class_="chart",
        )
        for one in charts
    ]


def embedded(charts: Sequence[PageChart]) -> Markup:
    """Return the data of all charts as an element that no browser executes."""
    text = msgspec.json.encode(charts).decode()
    for character, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, code)  # no text can end the element
    return tag("script", Markup(text), type="application/json", id="charts")


def all_charts(reports: Mapping[str, RunReport]) -> list[PageChart]:
    """Return the charts of the reports of a page, by the beginning of their ids."""
    charts: list[PageChart] = []
    for name, report in reports.items():
        if report.usage is not None:
            charts += usage_charts(report.usage, name)
        if report.results is not None:
            charts += plot_charts(report.results.plots, name)
    return charts


def shown_value(value: Any) -> str:
    """Return a value of a result as the text of a cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | dict):
        text = msgspec.json.encode(value).decode()
        return text if len(text) <= 120 else f"{text[:117]}..."
    return str(value)
