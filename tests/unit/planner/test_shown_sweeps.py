"""The cells of a sweep as `plan` shows them."""

from pathlib import Path

from sflow_ctl.planner.show.plan_json import to_json
from sflow_ctl.planner.show.sweeps import sweep_lines
from tests.unit.planner.planning import plan_of

TASKS = "workflow: {name: w, tasks: [{name: a, script: [x]}, {name: b, depends_on: [a], script: [x]}]}"
CASES = """variables: {zed: 0, lr: 0, wd: 0}
sweep:
  axes: {zed: [1, 2], lr: [3]}
  cases: [{name: small, set: {wd: 1}}, {name: large, axes: {wd: [0.5, 0.25]}}]
"""


def lines(tmp_path: Path, text: str) -> list[str]:
    return list(sweep_lines(plan_of(tmp_path, text)))


def test_each_cell_is_listed_once_in_order(tmp_path: Path) -> None:
    shown = lines(tmp_path, f"{CASES}{TASKS}")
    assert shown[:2] == ["", "Sweep: 6 cells over lr, wd, zed, of which zed varies fastest"]
    assert [line.split()[:2] for line in shown[2:]] == [
        ["0", "small_lr-3_zed-1"],
        ["1", "small_lr-3_zed-2"],
        ["2", "large_lr-3_wd-0.5_zed-1"],
        ["3", "large_lr-3_wd-0.5_zed-2"],
        ["4", "large_lr-3_wd-0.25_zed-1"],
        ["5", "large_lr-3_wd-0.25_zed-2"],
    ]
    assert shown[2].endswith("wd=1, lr=3, zed=1")


def test_a_declared_order_is_shown_as_it_is_written(tmp_path: Path) -> None:
    shown = lines(tmp_path, f"{CASES}  order: declared\n{TASKS}")
    assert shown[1] == "Sweep: 6 cells over zed, lr, wd, of which wd varies fastest"
    assert "zed-1_lr-3_wd-0.25" in shown[5]


def test_what_is_left_out_and_limits_are_said(tmp_path: Path) -> None:
    values = ", ".join(map(str, range(30)))
    sweep = f"variables: {{lr: 0}}\nsweep: {{axes: {{lr: [{values}]}}, max_runs: 25, max_parallel: 1, gpu_budget: 8}}\n"
    shown = lines(tmp_path, f"{sweep}{TASKS}")
    assert shown[1:3] == ["Sweep: 25 of 30 cells over lr", "  at most 1 cell at once, 8 GPUs at once"]
    assert len(shown) == 1 + 1 + 1 + 20 + 1
    assert shown[-1] == "  ... and 5 more: plan --json has all"


def test_a_sweep_of_one_task_names_it(tmp_path: Path) -> None:
    task = "{name: a, script: [x], sweep: {cases: [{name: x, set: {lr: 1}}]}}"
    shown = lines(tmp_path, f"variables: {{lr: 0}}\nworkflow: {{name: w, tasks: [{task}]}}")
    assert shown[1] == "Sweep of task a: 1 cell, in the order of the file"


def test_json_has_the_sweeps_and_the_cell_of_each_task(tmp_path: Path) -> None:
    data = to_json(plan_of(tmp_path, f"{CASES}{TASKS}"))
    (sweep,) = data["sweeps"]
    assert (sweep["cells"], sweep["total"], list(sweep["axes"])) == (6, 6, ["lr", "wd", "zed"])
    assert [task["cell"]["index"] for task in data["tasks"] if task["base"] == "a"] == [*range(6)]
    assert [task["cell"]["case"] for task in data["tasks"] if task["base"] == "b"] == ["small"] * 2 + [
        "large"
    ] * 4
    assert not to_json(plan_of(tmp_path, TASKS))["sweeps"]
