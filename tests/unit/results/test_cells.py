"""The table by cell: the values of all tasks of a cell in one row."""

from pathlib import Path

from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.report.run_view import RunView
from sflow_ctl.results.cells import cell_results
from tests.unit.planner.planning import plan_of

TEXT = """variables: {lr: 1}
sweep: {axes: {lr: [1, 2]}}
workflow:
  name: w
  tasks:
    - {name: train, script: [a], outputs: [{pattern: "x = {x}"}]}
    - {name: eval, depends_on: [train], script: [b], outputs: [{pattern: "x = {x} {y}"}]}
    - {name: part, replicas: 2, script: [c], outputs: [{pattern: "z = {z}"}]}
"""


def test_a_row_has_the_values_of_all_tasks_of_its_cell(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TEXT)
    state = RunView(plan)
    names = [task.name for task in plan.tasks if task.name.endswith("lr-1") or "lr-1_" in task.name]
    for name in names:
        for old, new in (
            ("waiting", "queued"),
            ("queued", "starting"),
            ("starting", "running"),
            ("running", "completed"),
        ):
            state.apply(
                Transition(
                    task=name,
                    attempt=1,
                    old=TaskState(old),
                    new=TaskState(new),
                    reason=Reason("exit"),
                    runtime_s=1.5 if new == "completed" else None,
                ),
                0,
            )
    outputs = {
        "train_lr-1": {"x": 1},
        "eval_lr-1": {"x": 2, "y": 3},
        "part_lr-1_0": {"z": 4},
        "part_lr-1_1": {"z": 5},
    }
    columns, rows = cell_results(plan, state, outputs)
    assert columns == ["cell", "lr", "state", "attempts", "runtime_s", "train.x", "eval.x", "y", "z"]
    assert rows == [
        ["lr-1", "1", "completed", 1, 6.0, 1, 2, 3, [4, 5]],
        ["lr-2", "2", "not ended", 0, None, None, None, None, None],
    ]


def test_a_plan_without_a_sweep_has_no_cells(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TEXT.replace("sweep:", "secrets: []\n#"))
    assert cell_results(plan, RunView(plan), {}) == ([], [])
