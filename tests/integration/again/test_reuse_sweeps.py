"""`run --reuse` where both runs are sweeps: cells are known by their values, wherever they are in the order."""

import json
from pathlib import Path

import pytest

from tests.support import Run, kill_run, nothing_left, sflow_ctl

WORKFLOW = """version: "0.1"
variables: {LR: {value: 1}, WIDTH: {value: 1}}
sweep:
  axes: {LR: [1, 2]}
workflow:
  name: w
  on_failure: isolate
  outputs: {all: best.outputs.all}
  tasks:
    prep:
      sweep: false
      script:
        - echo prep >> $SFLOW_WORKSPACE_DIR/made
        - echo '{"n":10}' > $SFLOW_OUTPUTS_FILE
      outputs: {n: {type: int}}
    train:
      inputs: {n: {from: prep.outputs.n}}
      script:
        - echo train$LR >> $SFLOW_WORKSPACE_DIR/made
        - if [ -e $SFLOW_WORKSPACE_DIR/hold$LR ]; then sleep 600; fi
        - if [ -e $SFLOW_WORKSPACE_DIR/broken$LR ]; then exit 1; fi
        - echo "{\\"v\\":$((LR * WIDTH * INPUT_N))}" > $SFLOW_OUTPUTS_FILE
      outputs: {v: {type: int}}
    evaluate:
      inputs: {v: {from: train.outputs.v}}
      script:
        - echo evaluate$LR >> $SFLOW_WORKSPACE_DIR/made
        - echo "{\\"score\\":$((INPUT_V + 1))}" > $SFLOW_OUTPUTS_FILE
      outputs: {score: {type: int}}
    best:
      sweep: false
      inputs: {all: {from: evaluate.outputs.score}}
      script:
        - echo best >> $SFLOW_WORKSPACE_DIR/made
        - echo "{\\"all\\":$INPUT_ALL}" > $SFLOW_OUTPUTS_FILE
      outputs: {all: {type: list}}
"""
OF_ONE_TASK = """version: "0.1"
variables: {LR: {value: 1}}
workflow:
  name: w
  outputs: {all: best.outputs.all}
  tasks:
    train:
      sweep: {axes: {LR: [1, 2]}}
      script:
        - echo train$LR >> $SFLOW_WORKSPACE_DIR/made
        - echo "{\\"v\\":$LR}" > $SFLOW_OUTPUTS_FILE
      outputs: {v: {type: int}}
    best:
      inputs: {all: {from: train.outputs.v}}
      script:
        - echo best >> $SFLOW_WORKSPACE_DIR/made
        - echo "{\\"all\\":$INPUT_ALL}" > $SFLOW_OUTPUTS_FILE
      outputs: {all: {type: list}}
"""


def made(place: Path) -> list[str]:
    """Return what has run since the last call, in no order."""
    path = place / "made"
    found = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def run(place: Path, name: str, *words: str, status: int = 0) -> list[str]:
    """Run what the file has now; return what has run."""
    done = sflow_ctl("run", "w.yaml", "--run-id", name, *words, cwd=place)
    assert done.returncode == status, done.stdout + done.stderr
    return made(place)


def change(place: Path, old: str, new: str) -> None:
    text = (place / "w.yaml").read_text()
    assert old in text
    (place / "w.yaml").write_text(text.replace(old, new))


def decisions(place: Path, *words: str) -> dict[str, str]:
    done = sflow_ctl("plan", "w.yaml", *words, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    return {one["task"]: one["decision"] for one in json.loads(done.stdout)["reuse"]}


def gathered(place: Path, name: str) -> object:
    content = json.loads((place / f"sflow_output/{name}/.sflow/outputs.json").read_text())
    return content["outputs"][0]["value"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a sweep of two cells has completed."""
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    assert run(tmp_path, "one") == ["best", "evaluate1", "evaluate2", "prep", "train1", "train2"]
    return tmp_path


def test_cells_that_were_there_are_taken_over_and_a_new_value_runs(place: Path) -> None:
    change(place, "[1, 2]", "[3, 1, 2]")  # all others are at another place in the order
    assert decisions(place, "--reuse", "one") == {
        "prep": "hit",
        "train_LR-3": "miss",
        "evaluate_LR-3": "miss",
        "train_LR-1": "hit",
        "evaluate_LR-1": "hit",
        "train_LR-2": "hit",
        "evaluate_LR-2": "hit",
        "best": "stale",
    }
    assert run(place, "two", "--reuse", "one") == ["best", "evaluate3", "train3"]
    assert gathered(place, "two") == [31, 11, 21]
    assert run(place, "three", "--reuse", "two") == [], "what was taken over can be taken over again"
    change(place, "[3, 1, 2]", "[2]")
    assert run(place, "four", "--reuse", "one") == ["best"]
    assert gathered(place, "four") == [21]


def test_cells_whose_values_have_changed_run_again(place: Path) -> None:
    change(place, "  axes: {LR: [1, 2]}", "  axes: {LR: [1, 2, 3]}\n  max_runs: 2")
    assert run(place, "capped", "--reuse", "one") == []
    change(place, "WIDTH: {value: 1}", "WIDTH: {value: 2}")  # every task has it in its environment
    every = ["best", "evaluate1", "evaluate2", "prep", "train1", "train2"]
    assert run(place, "wide", "--reuse", "one") == every
    change(place, "WIDTH: {value: 2}", "WIDTH: {value: 1}")
    change(place, "axes: {LR: [1, 2, 3]}\n  max_runs: 2", "axes: {LR: [1, 4], WIDTH: [1]}")
    other = run(place, "other", "--reuse", "one")
    assert other == ["best", "evaluate1", "evaluate4", "train1", "train4"], "cells of another axis are others"


def test_a_cell_that_failed_or_was_not_finished_runs_again_and_two_runs_add_up(place: Path) -> None:
    change(place, "[1, 2]", "[1, 2, 3, 4]")
    (place / "broken3").touch()
    tried = run(place, "two", "--reuse", "one", status=1)
    assert tried == ["evaluate4", "train3", "train4"]
    (place / "broken3").unlink()
    assert decisions(place, "--reuse", "one", "--reuse", "two")["train_LR-3"] in ("miss", "stale")
    assert run(place, "three", "--reuse", "one", "--reuse", "two") == ["best", "evaluate3", "train3"]
    assert gathered(place, "three") == [11, 21, 31, 41]


def test_a_sweep_that_reuses_and_is_killed_continues(place: Path) -> None:
    (place / "hold5").touch()
    text = WORKFLOW.replace("[1, 2]", "[5, 1, 2]")
    live = Run.start(text, place, "--reuse", "one", run_id="live")
    try:
        live.wait_for("train_LR-5", "running")
        kill_run(live.process)
        nothing_left(live)
        (place / "hold5").unlink()
        made(place)
        again = sflow_ctl("run", "--resume", live.directory, cwd=place)
        assert again.returncode == 0, again.stdout + again.stderr
        assert made(place) == ["best", "evaluate5", "train5"]
        assert gathered(place, "live") == [51, 11, 21]
    finally:
        live.kill()


def test_cells_of_one_task_are_taken_over_too(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(OF_ONE_TASK)
    assert run(tmp_path, "one") == ["best", "train1", "train2"]
    change(tmp_path, "[1, 2]", "[3, 2, 1]")
    assert run(tmp_path, "two", "--reuse", "one") == ["best", "train3"]
    assert gathered(tmp_path, "two") == [3, 2, 1]
