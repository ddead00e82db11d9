"""The tables of the page: tasks, times of start-up, results, measured averages, nodes, variables and versions. Pure.

They can be read without a script. The script only filters and sorts the table of tasks.
"""

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from protocol.text.counted import counted
from protocol.text.sizes import size_text
from sflow_ctl.core.states import TaskState
from sflow_ctl.report.page.charts import chart_places, plot_charts, series_name, shown_value, usage_charts
from sflow_ctl.report.page.markup import NOTHING, Markup, joined, tag
from sflow_ctl.report.page.overview import energy_text, pill, table
from sflow_ctl.report.run_report.model import RunReport, TaskReport, ValueSpread
from sflow_ctl.report.words import duration_text, gpus_text

MAX_TASKS = 1000
"""Rows of the table of tasks; those that did not complete come first then."""
FIRST_TASKS = 150
"""Of these rows the ones that are laid out when the page opens; the others when they are unfolded, found, sorted or filtered."""
MAX_RESULTS = 2000
MAX_GROUPS = 300
MAX_SERIES = 300
_WHAT = {
    "cpu": "CPU",
    "memory": "memory",
    "gpu": "GPU",
    "gpu_memory": "GPU memory",
    "power": "power",
    "task_cpu": "CPU",
    "task_memory": "memory",
}
_FINE = frozenset({TaskState.COMPLETED})
_QUIET_WORDS = frozenset(
    {"exit", "signal", "dependencies", "placed", "started", "ready", "run_complete", "cell_complete"}
)


class _Measured(Struct, frozen=True):
    """A column of what tasks have used; a run of which nothing is known has none."""

    title: str
    value: Callable[[TaskReport], float | None]
    text: Callable[[float], str]


_MEASURED = (
    _Measured("CPU time", lambda task: task.cpu_s, duration_text),
    _Measured("Memory", lambda task: task.max_rss_bytes, lambda value: size_text(round(value))),
    _Measured("GPU time", lambda task: task.gpu_busy_s, duration_text),
    _Measured("GPU energy", lambda task: task.gpu_energy_j, energy_text),
)


def shown_tasks(report: RunReport) -> list[tuple[int, TaskReport]]:
    """Return the tasks that have a row, with their numbers in the report."""
    tasks = list(enumerate(report.tasks))
    if len(tasks) > MAX_TASKS:
        tasks.sort(key=lambda one: one[1].state in _FINE)
        tasks = sorted(tasks[:MAX_TASKS], key=lambda one: (one[1].state in _FINE, one[0]))
    return tasks


def tasks_section(report: RunReport, name: str) -> Markup:
    """Return the table of tasks."""
    shown = shown_tasks(report)
    left = len(report.tasks) - len(shown)
    said = (
        f"{len(shown)} of {len(report.tasks)} tasks, those that did not complete first; report.json has all."
        if left
        else counted(len(shown), "task")
    )
    measured = [one for one in _MEASURED if any(one.value(task) is not None for _, task in shown)]
    numbers = ("Tries", "Waited", "Start-up", "Ready after", "Ran", *(one.title for one in measured))
    head = ("Task", "State", "Tries", "Exit", *numbers[1:], "Node", "GPUs", "Why")
    heads = [tag("th", text, scope="col", class_="r" if text in numbers else None) for text in head]
    rows = [_task_row(task, number, report, name, measured) for number, task in shown]
    return tag(
        "section",
        tag("h2", "Tasks"),
        tag("p", said, class_="sub"),
        tag(
            "div",
            tag(
                "label", "Filter ", tag("input", type="search", class_="filter", placeholder="name or state")
            ),
            tag("output", class_="hits"),
            class_="tools script-only",
        ),
        _rows_of_tasks(heads, rows[:FIRST_TASKS], "tasks", class_="tasks sortable", id=f"{name}tasks"),
        tag(
            "details",
            tag("summary", counted(len(rows) - FIRST_TASKS, "more task")),
            _rows_of_tasks(heads, rows[FIRST_TASKS:], "more tasks", class_="tasks"),
            class_="rest",
        )
        if len(rows) > FIRST_TASKS
        else NOTHING,
        id=f"{name}all",
    )


def _rows_of_tasks(heads: Sequence[Markup], rows: Sequence[Markup], label: str, **attributes: str) -> Markup:
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), **attributes)
    return tag("div", table, class_="scroll tall", tabindex="0", role="region", aria_label=label)


def _task_row(
    task: TaskReport, number: int, report: RunReport, name: str, measured: Sequence[_Measured]
) -> Markup:
    last = task.attempts[-1] if task.attempts else None
    nodes = () if last is None else last.nodes
    place = "" if not nodes else report.nodes[nodes[0]].name
    if len(nodes) > 1:
        place = f"{place} +{len(nodes) - 1}"
    state = "stopped" if task.is_stopped else task.state.value
    times = (task.waited_s, task.startup_s, task.ready_after_s, task.ran_s)
    return tag(
        "tr",
        tag("td", task.name),
        tag("td", pill(state)),
        tag("td", str(len(task.attempts) or "–"), class_="r"),
        tag("td", "" if last is None else last.exit, class_="short"),
        *(_number(one, duration_text) for one in times),
        *(_number(one.value(task), one.text) for one in measured),
        tag("td", place, class_="place"),
        tag("td", "" if last is None or not last.gpus else gpus_text(last.gpus), class_="short"),
        tag("td", joined(_why(task)), class_="why"),
        id=f"{name}t{number}",
    )


def _number(value: float | None, text: Callable[[float], str]) -> Markup:
    if value is None:
        return tag("td", class_="r")
    return tag("td", text(value), class_="r", data_v=f"{value:g}")


def _why(task: TaskReport) -> Iterator[Markup | str]:
    """Yield what is to be said of a task: why it did not complete, what it waits for, what is missing."""
    if task.state is not TaskState.COMPLETED and not task.is_stopped and task.text:
        word = "" if task.word in _QUIET_WORDS else f"{task.word}: "
        yield f"{word}{task.text[:300]}"
    if task.waits_for:
        yield f" not ready: {task.waits_for}"
    if task.progress:
        yield f" {task.progress}"
    if task.hint:
        yield tag("div", task.hint, class_="hint")
    for problem in task.output_problems[:3]:
        yield tag("div", problem, class_="hint")
    if task.uploads:
        yield tag("div", task.uploads, class_="hint")
    for attempt in task.attempts[:-1][-3:]:
        yield tag("div", f"attempt {attempt.number}: {attempt.text[:160] or attempt.exit}", class_="hint")


def groups_section(report: RunReport) -> Markup:
    """Return how long tasks waited, started and took to get ready, by their names in the file."""
    groups = [group for group in report.groups if group.startup_s is not None]
    if not groups:
        return NOTHING
    ordered = sorted(groups, key=lambda one: -(one.ready_after_s.high if one.ready_after_s else 0.0))
    rows = [
        (
            group.name,
            str(group.count),
            *(_range(one) for one in (group.waited_s, group.startup_s, group.ready_after_s, group.ran_s)),
        )
        for group in ordered[:MAX_GROUPS]
    ]
    left = len(ordered) - len(rows)
    return tag(
        "section",
        tag("h2", "Start-up and readiness"),
        tag(
            "p",
            "From a task's dependencies to its place, from there to its processes, from there until it was ready, and its run "
            "time: median, and least to greatest of several."
            + (f" {counted(left, 'more row')} left out." if left else ""),
            class_="sub",
        ),
        table(("Task", "Tasks", "Waited", "Start-up", "Ready after", "Ran"), rows, right=(1, 2, 3, 4, 5)),
        id="startup",
    )


def _range(spread: ValueSpread | None) -> str:
    if spread is None:
        return ""
    if spread.low == spread.high:
        return duration_text(spread.median)
    return f"{duration_text(spread.median)} ({duration_text(spread.low)} – {duration_text(spread.high)})"


def usage_section(report: RunReport, name: str) -> Markup:
    """Return what was measured: charts, and the averages as a table."""
    usage = report.usage
    if usage is None:
        return tag(
            "section",
            tag("h2", "Use of nodes and GPUs"),
            tag(
                "p",
                "Nothing was measured: the run was too short, or its telemetry was switched off.",
                class_="sub",
            ),
            id=f"{name}usage",
        )
    charts = chart_places(usage_charts(usage, name))
    rows = [
        (
            series_name(one),
            _WHAT[one.metric],
            f"{one.average:.4g} {one.unit}",
            f"{one.highest:.4g} {one.unit}",
        )
        for one in usage.series[:MAX_SERIES]
    ]
    left = len(usage.series) - len(rows)
    note = f"{counted(left, 'more row')} left out; report.json has all." if left else ""
    simulated = tag("p", "GPUs of this run are simulated.", class_="sub") if usage.is_simulated else NOTHING
    return tag(
        "section",
        tag("h2", "Use of nodes and GPUs"),
        simulated,
        tag("div", *charts, class_="charts") if charts else NOTHING,
        tag(
            "details",
            tag("summary", "Averages and highest values"),
            table(("Of", "What", "Average", "Highest"), rows, right=(2, 3)),
            tag("p", note, class_="note") if note else NOTHING,
        ),
        id=f"{name}usage",
    )


def results_section(report: RunReport, name: str) -> Markup:
    """Return the values of tasks, as plots and as a table."""
    results = report.results
    if results is None:
        return NOTHING
    shown = results.rows[:MAX_RESULTS]
    right = [
        at
        for at in range(len(results.columns))
        if all(row[at] is None or isinstance(row[at], int | float) for row in shown)
    ]
    rows = [[shown_value(value) for value in row] for row in shown]
    left = len(results.rows) - len(shown)
    charts = chart_places(plot_charts(results.plots, name))
    note = f"{counted(left, 'more row')} in results.csv and report.json." if left else ""
    return tag(
        "section",
        tag("h2", "Results"),
        tag("div", *charts, class_="charts") if charts else NOTHING,
        table(results.columns, rows, right, class_="sortable"),
        tag("p", note, class_="note") if note else NOTHING,
        id=f"{name}results",
    )


def about_section(report: RunReport) -> Markup:
    """Return the nodes, variables, versions and commands of the run."""
    run = report.run
    nodes = [
        (
            node.name,
            node.backend,
            "" if node.cpus is None else str(node.cpus),
            "" if node.memory_bytes is None else size_text(node.memory_bytes),
            _gpus(node.gpus, node.gpu_models),
            f"{100 * min(1.0, node.busy_s / max(run.duration_s, 1e-9)):.0f} %",
        )
        for node in report.nodes[:MAX_GROUPS]
    ]
    left = len(report.nodes) - len(nodes)
    variables = [(name, shown_value(value)) for name, value in report.variables.items()]
    commands = [" ".join(one) for one in (run.command, *run.resumed_by)]
    return tag(
        "section",
        tag("h2", "Nodes"),
        table(("Node", "Backend", "CPUs", "Memory", "GPUs", "Busy"), nodes, right=(2, 3, 5)),
        tag("p", f"{counted(left, 'more node')} left out.", class_="note") if left else NOTHING,
        tag("h2", "Variables and versions"),
        tag(
            "div",
            table(("Variable", "Value"), variables) if variables else NOTHING,
            table(("Program", "Version"), list(report.versions.items())),
            class_="side",
        ),
        tag("h3", "Commands" if len(commands) > 1 else "Command"),
        tag("pre", "\n".join(commands), tabindex="0", aria_label="commands"),
        tag("p", "Run directory: ", tag("code", run.directory), class_="sub"),
        id="about",
    )


def _gpus(count: int | None, models: Sequence[str]) -> str:
    names = ", ".join(sorted({one for one in models if one}))
    if count is None:
        return names
    return f"{count} × {names}" if names and count else str(count)
