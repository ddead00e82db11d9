"""The page about two runs: what differs in their configuration and in their results. Pure."""

from collections.abc import Sequence
from typing import Any

from protocol.text.counted import counted
from sflow_ctl.report.page.charts import shown_value
from sflow_ctl.report.page.details import results_section, usage_section
from sflow_ctl.report.page.document import PageFiles, document, timeline
from sflow_ctl.report.page.markup import NOTHING, Markup, joined, tag
from sflow_ctl.report.page.overview import cause_card, pill, table
from sflow_ctl.report.run_report.comparing import RunComparison, TaskComparison, ValueComparison
from sflow_ctl.report.run_report.model import RunReport
from sflow_ctl.report.words import duration_text

MAX_ROWS = 500
LEFT, RIGHT = "a", "b"
"""Beginnings of the ids of each run's charts."""


def comparison_page(whole: RunComparison, files: PageFiles) -> str:
    """Return the page about two runs."""
    left, right = whole.left, whole.right
    sections = joined(
        [
            tag(
                "header",
                tag(
                    "h1", "Two runs of ", " and ".join(dict.fromkeys((left.run.workflow, right.run.workflow)))
                ),
                _heads(whole),
            ),
            _configuration(whole),
            _values(whole),
            _tasks(whole),
            _workflow(whole),
            _beside("Timelines", "timelines", timeline(left, LEFT, []), timeline(right, RIGHT, []), whole),
            _beside("Results", "results", results_section(left, LEFT), results_section(right, RIGHT), whole),
            _beside("Use", "usage", usage_section(left, LEFT), usage_section(right, RIGHT), whole),
        ]
    )
    title = f"{left.run.run_id} and {right.run.run_id}"
    links = (
        ("configuration", "Configuration"),
        ("values", "Results"),
        ("tasks", "Tasks"),
        ("workflow", "Workflow file"),
        ("timelines", "Timelines"),
    )
    return document(title, sections, links, {LEFT: left, RIGHT: right}, files)


def _heads(whole: RunComparison) -> Markup:
    rows = [_head(name, one) for name, one in (("first", whole.left), ("second", whole.right))]
    head = ("", "Run", "State", "Duration", "Tasks", "Made by")
    causes = joined(
        cause_card(one.cause, name, one.run.run_id)
        for name, one in ((LEFT, whole.left), (RIGHT, whole.right))
    )
    return joined([table(head, rows, right=(3,)), causes])


def _head(name: str, report: RunReport) -> tuple[Markup | str, ...]:
    run = report.run
    counts = ", ".join(f"{count} {word}" for word, count in run.counts.items())
    version = f"sflow-ctl {report.versions.get('sflow-ctl', '')}"
    return name, tag("code", run.run_id), pill(run.state), duration_text(run.duration_s), counts, version


def _configuration(whole: RunComparison) -> Markup:
    rows = [
        (tag("code", one.path), _long(one.left), _long(one.right)) for one in whole.configuration[:MAX_ROWS]
    ]
    return _section(
        "Configuration", "configuration", ("What", "First", "Second"), rows, len(whole.configuration)
    )


def _long(value: Any) -> Markup:
    if value is None:
        return tag("span", "not there", class_="hint")
    return tag("pre", value if isinstance(value, str) else shown_value(value))


def _values(whole: RunComparison) -> Markup:
    rows = [_value_row(one) for one in whole.values[:MAX_ROWS]]
    head = ("Task", "Value", "First", "Second", "Change")
    return _section("Values", "values", head, rows, len(whole.values), right=(2, 3, 4))


def _value_row(one: ValueComparison) -> tuple[Markup | str, ...]:
    change = "" if one.change is None else f"{100 * one.change:+.1f} %"
    return one.task, one.name, shown_value(one.left), shown_value(one.right), change


def _tasks(whole: RunComparison) -> Markup:
    rows = [_task_row(one) for one in whole.tasks[:MAX_ROWS]]
    head = ("Task", "First", "Second", "Tries", "Ready after", "Ran", "Difference")
    return _section("Tasks", "tasks", head, rows, len(whole.tasks), right=(3, 4, 5, 6))


def _task_row(one: TaskComparison) -> tuple[Markup | str, ...]:
    before, after = one.ran_s
    change = "" if before is None or after is None else f"{after - before:+.2f} s"
    states = [pill(state) if state is not None else "not there" for state in one.states]
    tries = (
        f"{one.attempts[0]} → {one.attempts[1]}"
        if one.attempts[0] != one.attempts[1]
        else str(one.attempts[0])
    )
    return one.name, *states, tries, _pair(one.ready_after_s), _pair(one.ran_s), change


def _pair(values: tuple[float | None, float | None]) -> str:
    if values == (None, None):
        return ""
    return " → ".join("–" if one is None else duration_text(one) for one in values)


def _workflow(whole: RunComparison) -> Markup:
    kinds = {"+": "add", "-": "del", "@": "at"}
    lines = [tag("span", f"{line}\n", class_=kinds.get(line[:1])) for line in whole.workflow]
    body = (
        tag("pre", *lines, class_="diff", tabindex="0", aria_label="difference of the workflow files")
        if lines
        else tag("p", "Both runs used the same workflow.", class_="sub")
    )
    return tag("section", tag("h2", "Workflow file"), body, id="workflow")


def _section(
    title: str,
    name: str,
    head: tuple[str, ...],
    rows: Sequence[tuple[Markup | str, ...]],
    total: int,
    right: tuple[int, ...] = (),
) -> Markup:
    left = total - len(rows)
    body = table(head, rows, right) if rows else tag("p", "No differences.", class_="sub")
    note = (
        tag("p", f"{counted(left, 'more row')} left out; --json has all.", class_="note") if left else NOTHING
    )
    return tag("section", tag("h2", title), body, note, id=name)


def _beside(title: str, name: str, left: Markup, right: Markup, whole: RunComparison) -> Markup:
    if not (left or right):
        return NOTHING
    ids = (whole.left.run.run_id, whole.right.run.run_id)
    parts = [tag("div", tag("h3", run), part) for run, part in zip(ids, (left, right), strict=True)]
    return tag("div", tag("h2", title), tag("div", *parts, class_="two"), id=name)
