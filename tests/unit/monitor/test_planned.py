"""Monitors in a file: what is planned and ordered, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import FleetError
from sflow_ctl.plan.monitors import monitor_orders
from tests.unit.planner.planning import plan_of

TASKS = "  tasks: [{name: a, script: [x], MONITOR}, {name: b, script: [x], replicas: 2}]\n"


def workflow(monitor: str = "", whole: str = "") -> str:
    of_workflow = f"  monitor: {whole}\n" if whole else ""
    of_task = f"monitor: {monitor}" if monitor else "timeout: 10"
    return f"workflow:\n  name: w\n{of_workflow}{TASKS.replace('MONITOR', of_task)}"


def problems(folder: Path, text: str, **context: Any) -> list[tuple[str, str]]:
    """Code and text of every finding."""
    with pytest.raises(FleetError) as raised:
        plan_of(folder, text, **context)
    return [(finding.code, finding.what) for finding in raised.value.findings]


def test_the_default_is_all_scopes_every_five_seconds(tmp_path: Path) -> None:
    (monitor,) = plan_of(tmp_path, workflow("{}")).monitors
    assert {one.scope for one in monitor.scopes} == {"cpu", "gpu", "memory", "disk", "network"}
    assert {one.interval_ms for one in monitor.scopes} == {5000}
    assert (monitor.task, monitor.has_report, monitor.formats, monitor.window) == (
        "a",
        True,
        ("csv", "svg"),
        None,
    )


def test_only_named_and_enabled_scopes_are_active_each_with_its_interval(tmp_path: Path) -> None:
    text = "{interval: 500, scopes: {cpu: , memory: {interval: '${{ 500 * 2 }}'}, disk: {enabled: false}}}"
    (monitor,) = plan_of(tmp_path, workflow(whole=text)).monitors
    assert [(one.scope, one.interval_ms) for one in monitor.scopes] == [("cpu", 500), ("memory", 1000)]
    assert monitor.task is None


def test_a_window_starts_with_the_first_and_ends_with_the_last_line(tmp_path: Path) -> None:
    text = "{window: {start: B, end: {pattern: ['re:^F', 'regex:G', H]}}}"
    (monitor,) = plan_of(tmp_path, workflow(text)).monitors
    assert monitor.window is not None
    assert (monitor.window.start.is_last, monitor.window.end.is_last) == (False, True)
    shown = [(one.pattern, one.is_regex) for one in monitor.window.end.patterns]
    assert shown == [("^F", True), ("G", True), ("H", False)]


def test_agents_measure_for_all_replicas_and_watched_tasks(tmp_path: Path) -> None:
    text = "{resources: {used_by_tasks: b}, window: {start: x, end: y}, scopes: {custom: {script: iostat}, cpu: {}}}"
    plan = plan_of(tmp_path, workflow(text, "{}"))
    orders = monitor_orders(plan.monitors, plan.tasks)
    assert orders is not None
    assert [one.tasks for one in orders.monitors] == [(), ("a", "b_0", "b_1")]
    assert orders.monitors[1].script == "iostat"
    assert [one.tasks for one in orders.windows] == [("a",)]
    some = [task for task in plan.tasks if task.base == "b"]
    only = monitor_orders([one for one in plan.monitors if one.task == "a"], some)
    assert only is None  # --task b


def test_nodes_and_gpus_of_a_report_are_chosen_as_those_of_tasks(tmp_path: Path) -> None:
    pool = "backends: {l: {type: local, nodes: 4, gpus_per_node: 4}}\n"
    text = "{resources: {nodes: {exclude: [0], count: 2}, gpus: {indices: [1, 3]}}}"
    (monitor,) = plan_of(tmp_path, pool + workflow(text)).monitors
    assert (monitor.nodes, monitor.gpus) == ((1, 2), (1, 3))
    (other,) = plan_of(tmp_path, pool + workflow("{resources: {nodes: 1, gpus: 2}}")).monitors
    assert (other.nodes, other.gpus) == ((0,), (0, 1))


def test_options_add_a_default_monitor_where_there_is_none(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, workflow("{interval: 700}"), monitors_workflow=True, monitored_tasks=("a", "b"))
    assert [(one.task, one.scopes[0].interval_ms) for one in plan.monitors] == [
        (None, 5000),
        ("a", 700),
        ("b", 5000),
    ]


def test_a_field_of_gpus_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, workflow("{scopes: {gpu: {fields: [index, power.drawn]}}}"))
    assert [(one.code, one.hint) for one in plan.warnings] == [
        ("monitor-fields", 'did you mean "power.draw"?')
    ]
    assert plan.monitors[0].gpu_fields == ("index", "power.drawn")


@pytest.mark.parametrize(
    ("monitor", "whole", "code", "phrase"),
    [
        ("{interval: 99}", "", "monitor-interval", "monitor interval must be >= 100 ms, is 99"),
        ("", "{scopes: {cpu: {interval: 5}}}", "monitor-interval", "monitor interval must be >="),
        ("{scopes: {}}", "", "monitor-scopes", "no scope is active"),
        ("{scopes: {cpu: {enabled: '${{ 1 > 2 }}'}}}", "", "monitor-scopes", "no scope is active"),
        ("{scopes: {custom: {script: [' ']}}}", "", "monitor-scopes", "script of its custom scope is empty"),
        ("{scopes: {gpu: {fields: [power.draw]}}}", "", "monitor-fields", "must be index"),
        ("{resources: {used_by_tasks: [c]}}", "", "unknown-monitored-task", 'refers to unknown task "c"'),
        ("{resources: {nodes: {indices: [7]}}}", "", "monitor-resources", "node 7 is beyond the 1"),
        ("{report: {format: [pdf]}}", "", "wrong-value", '"pdf" is not one of csv, svg, png'),
        (
            "{window: {start: a, end: b}, report: {enabled: false}}",
            "",
            "monitor-window",
            "its report is not enabled",
        ),
        ("{window: {start: 're:(', end: b}}", "", "bad-regex", "not a regular expression"),
        ("{window: {start: [], end: b}}", "", "monitor-window", "an empty start"),
        ("", "{window: {start: a, end: b}}", "monitor-window", "searched in the log of a task"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    monitor: str, whole: str, code: str, phrase: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, workflow(monitor, whole))
    assert [one for one, _ in found] == [code]
    assert phrase in found[0][1]


def test_an_option_for_a_task_that_is_not_there_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, workflow(), monitored_tasks=("bb",))
    assert found == [("unknown-monitored-task", '--enable-task-monitor refers to unknown task "bb"')]


@pytest.mark.parametrize(
    ("name", "whole", "is_refused"),
    [
        ("sflow_monitor", "", True),
        ("sflow_monitor.log", "", True),
        ("workflow", "{}", True),
        ("workflow", "", False),
        ("raw", "{}", False),
    ],
)
def test_clusters_f6_a_task_cannot_have_a_name_that_monitors_write_to(
    name: str, whole: str, is_refused: bool, tmp_path: Path
) -> None:
    text = workflow("{}", whole).replace("{name: b,", f"{{name: {name},")
    if not is_refused:
        plan_of(tmp_path, text)
        return
    ((code, what),) = problems(tmp_path, text)
    assert code == "monitor-name"
    assert f'task "{name}" is called so' in what


def test_without_a_monitor_such_names_are_free(tmp_path: Path) -> None:
    plan_of(tmp_path, "workflow: {name: w, tasks: [{name: sflow_monitor, script: [x]}]}\n")
