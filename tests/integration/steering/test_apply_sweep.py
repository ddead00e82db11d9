"""`apply` on a live sweep: only the cells that it adds or changes run, and what is known of the others stays."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Run, sflow_ctl, wait_until

WORKFLOW = """version: "0.1"
variables:
  LR: {type: integer, value: 0}
sweep:
  axes: {LR: VALUES}
  max_parallel: 2
workflow:
  name: w
  tasks:
    - name: train
      script: ["echo lr $LR; echo id $SFLOW_SWEEP_ID; while [ ! -e go$LR ]; do sleep 0.05; done; echo score=$((LR * 10))"]
      outputs: [{pattern: "score={score:d}"}]
"""


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Run]:
    run = Run.start(WORKFLOW.replace("VALUES", "[1, 2, 3]"), tmp_path, run_id="live")
    try:
        run.wait_for("train_LR-1", "running")
        run.wait_for("train_LR-2", "running")
        yield run
    finally:
        run.kill()


def apply(place: Path, values: str) -> str:
    (place / "other.yaml").write_text(WORKFLOW.replace("VALUES", values))
    done = sflow_ctl("apply", "live", "other.yaml", cwd=place)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cell_id(run: Run, task: str) -> str:
    return (run.directory / task / f"{task}.log").read_text().split()[3]


def test_cells_come_and_go_while_the_others_run(live: Run, tmp_path: Path) -> None:
    (tmp_path / "go1").touch()
    live.wait_for("train_LR-1", "completed")
    live.wait_for("train_LR-3", "running")
    pids = {name: live.pid_of(name) for name in ("train_LR-2", "train_LR-3")}
    identity = cell_id(live, "train_LR-2")
    shown = apply(tmp_path, "[7, 1, 2]")
    assert "revision 2 applied: new train_LR-7; removed train_LR-3" in shown
    live.wait_for("train_LR-3", "cancelled")
    live.wait_for("train_LR-7", "running")
    assert live.pid_of("train_LR-2") == pids["train_LR-2"]
    assert cell_id(live, "train_LR-2") == identity
    live.kill_controller()  # the successor knows the cells
    shown = apply(tmp_path, "[7, 1, 2, 3, 4]")
    assert "revision 3 applied: new train_LR-3, train_LR-4" in shown
    for name in ("go2", "go3", "go4", "go7"):
        (tmp_path / name).touch()
    live.process.wait(30)
    summary = live.summary()
    assert summary.outcome == "completed"
    assert {task.name: task.attempts for task in summary.tasks} == {
        "train_LR-1": 1, "train_LR-2": 1, "train_LR-3": 2, "train_LR-7": 1, "train_LR-4": 1,
    }  # fmt: skip
    with (live.directory / ".sflow/cells.csv").open() as file:
        rows = [(row["LR"], row["score"]) for row in csv.DictReader(file)]
    assert rows == [("7", "70"), ("1", "10"), ("2", "20"), ("3", "30"), ("4", "40")]


def test_a_removed_cell_has_no_row_and_a_limit_changes(live: Run, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(
        WORKFLOW.replace("VALUES", "[1, 3, 4]").replace("max_parallel: 2", "max_parallel: 3")
    )
    done = sflow_ctl("apply", "live", "other.yaml", cwd=tmp_path)
    assert "* the run: sweep changed" in done.stdout, done.stderr
    live.wait_for("train_LR-3", "running")
    live.wait_for("train_LR-4", "running")
    wait_until(lambda: live.pid_of("train_LR-1") > 0, "it runs")
    for name in ("go1", "go3", "go4"):
        (tmp_path / name).touch()
    live.process.wait(30)
    text = (live.directory / ".sflow/cells.csv").read_text()
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == ["LR-1", "LR-3", "LR-4"]
