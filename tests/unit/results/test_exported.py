"""What is exported of a run: rows of tasks, and records of cells and tasks with values."""

from pathlib import Path
from typing import Any

from sflow_ctl.core.states import TaskState
from sflow_ctl.report.run_view import RunView
from sflow_ctl.results.exported import ExportedRun, entries_of_runs, tracked_runs
from sflow_ctl.results.task_entries import FACTS, export_rows
from tests.unit.planner.planning import plan_of

FILE = """\
variables: {lr: 1}
sweep: {axes: {lr: [1, 2]}}
workflow:
  name: w
  tasks:
    - {name: a, script: [x]}
    - {name: b, script: [x]}
    - {name: c, sweep: false, script: [x]}
    - {name: d, sweep: false, script: [x]}
    - {name: e, script: [x], sweep: {axes: {lr: [7]}}}
"""


def exported(folder: Path, states: dict[str, TaskState], outputs: dict[str, dict[str, Any]]) -> ExportedRun:
    plan = plan_of(folder, FILE)
    view = RunView(plan)
    for name, state in states.items():
        record = view.tasks[name]
        record.state, record.attempts, record.runtime_s, record.node = state, 1, 2.0, 0
        record.started_wall_ns = 5_000_000_000
    return ExportedRun("r", plan, view, outputs, {"team": "x"}, 1_000_000_000)


DONE = dict.fromkeys(["a_lr-1", "b_lr-1", "a_lr-2", "c", "d"], TaskState.COMPLETED)
OUTPUTS: dict[str, dict[str, Any]] = {
    "a_lr-1": {"loss": [3, 2.5], "kind": "k"},
    "b_lr-1": {"loss": 9, "flag": True, "bad": float("nan"), "none": None},
    "c": {"total": 4},
}


def test_every_task_has_a_row_with_facts_labels_parameters_and_values(tmp_path: Path) -> None:
    columns, rows = export_rows(entries_of_runs([exported(tmp_path, DONE, OUTPUTS)]))
    assert columns == [
        *FACTS, "label.team", "param.lr", "value.loss", "value.kind", "value.flag", "value.bad", "value.none", "value.total",
    ]  # fmt: skip
    by_task = {row[2]: dict(zip(columns, row, strict=True)) for row in rows}
    assert list(by_task) == ["a_lr-1", "b_lr-1", "a_lr-2", "b_lr-2", "c", "d", "e_lr-7"]
    assert by_task["a_lr-1"]["value.loss"] == [3, 2.5]
    assert (by_task["a_lr-1"]["cell"], by_task["a_lr-1"]["param.lr"]) == ("lr-1", "1")
    assert (by_task["c"]["cell"], by_task["c"]["node"]) == (None, "localhost")
    assert (by_task["b_lr-2"]["state"], by_task["b_lr-2"]["node"]) == ("waiting", None)


def test_a_cell_is_one_record_with_the_values_of_its_tasks(tmp_path: Path) -> None:
    found = {one.name: one for one in tracked_runs([exported(tmp_path, DONE, OUTPUTS)])}
    assert set(found) == {"lr-1", "lr-2", "c", "e_lr-7"}, "d has neither values nor a cell"
    first = found["lr-1"]
    assert first.metrics == {"a.loss": [3.0, 2.5], "b.loss": [9.0], "runtime_s": [4.0]}
    assert first.texts == {"kind": "k", "flag": "True", "bad": "nan"}
    assert (first.key, first.parameters, first.labels) == ("r/lr-1", {"lr": "1"}, {"team": "x"})
    assert (first.state, first.started_ns, first.ended_ns) == ("completed", 5_000_000_000, 7_000_000_000)
    assert (found["lr-2"].state, found["lr-2"].ended_ns) == ("running", None)
    assert (found["c"].metrics["total"], found["c"].parameters) == ([4.0], {})
    assert found["e_lr-7"].started_ns == 1_000_000_000, "that of the run: it has not begun"


def test_a_record_has_failed_if_one_of_its_tasks_has_not_completed(tmp_path: Path) -> None:
    states = {**DONE, "b_lr-1": TaskState.SKIPPED}
    found = {one.name: one for one in tracked_runs([exported(tmp_path, states, OUTPUTS)])}
    assert found["lr-1"].state == "failed"
