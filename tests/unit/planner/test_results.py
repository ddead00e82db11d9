"""The `result` of a task in a file: its three shapes, and what is warned of or refused."""

from pathlib import Path

import pytest

from protocol.errors import FleetError
from sflow_ctl.plan.model import PlannedTask
from tests.unit.planner.planning import plan_of


def task_of(folder: Path, body: str) -> PlannedTask:
    return plan_of(folder, f"workflow: {{name: w, tasks: [{{name: a, script: [x], {body}}}]}}\n").tasks[0]


def test_names_with_expressions_are_patterns(tmp_path: Path) -> None:
    result = task_of(tmp_path, "result: {rate: 'r=(.+)', n: x}").result
    assert result is not None
    assert [(one.name, one.regex, one.aggregate, one.type) for one in result.patterns] == [
        ("rate", "r=(.+)", "last", "auto"),
        ("n", "x", "last", "auto"),
    ]


def test_the_full_form_has_types_units_and_what_is_required(tmp_path: Path) -> None:
    body = "result: {patterns: [{name: x, regex: y, type: int, unit: ms, aggregate: max, group: 0, required: '${{ 1 < 2 }}'}]}"
    result = task_of(tmp_path, body).result
    assert result is not None
    (one,) = result.patterns
    assert (one.type, one.unit, one.aggregate, one.group, one.is_required) == ("int", "ms", "max", 0, True)


def test_a_file_is_in_the_tasks_directory(tmp_path: Path) -> None:
    result = task_of(tmp_path, "result: {file: 'deep/m.json'}").result
    assert result is not None
    assert (result.file, result.patterns) == ("deep/m.json", ())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("result: {file: ../m.json}", "unsafe-path"),
        ("result: {file: /m.json}", "unsafe-path"),
        ("result: {file: \"${{ '..' }}/m.json\"}", "unsafe-path"),
        ("result: {rate: '('}", "wrong-pattern"),
        ("result: {rate: \"${{ '(' }}\"}", "wrong-pattern"),
    ],
)
def test_paths_and_patterns_are_checked_whether_written_or_computed(
    body: str, code: str, tmp_path: Path
) -> None:
    with pytest.raises(FleetError) as raised:
        task_of(tmp_path, body)
    assert [finding.code for finding in raised.value.findings] == [code]


def test_a_name_in_outputs_and_result_is_a_warning(tmp_path: Path) -> None:
    text = "workflow: {name: w, tasks: [{name: a, script: [x], outputs: [{pattern: 'r={r}'}], result: {r: 'r=(.)'}}]}\n"
    plan = plan_of(tmp_path, text)
    assert [one.code for one in plan.warnings] == ["value-twice"]


def test_a_file_beside_other_names_is_a_pattern_and_a_warning(tmp_path: Path) -> None:
    text = "workflow: {name: w, tasks: [{name: a, script: [x], result: {file: a.json, n: x}}]}\n"
    assert [one.code for one in plan_of(tmp_path, text).warnings] == ["file-as-pattern"]


def test_values_of_a_result_are_outputs_for_later_tasks(tmp_path: Path) -> None:
    text = (
        "workflow: {name: w, tasks: [{name: a, script: [x], result: {r: 'r=(.)'}},"
        " {name: b, depends_on: [a], script: ['${{ task.a.outputs.r }}']}]}\n"
    )
    assert plan_of(tmp_path, text).tasks[1].deferred
