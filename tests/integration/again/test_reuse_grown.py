"""`run --reuse` of runs whose plans have grown: items of late lists and iterations of loops count as other tasks do."""

import json
from pathlib import Path

import pytest

from tests.support import Run, kill_run, nothing_left, sflow_ctl

WORKFLOW = """version: "0.1"
variables: {SCALE: {value: 1}}
workflow:
  name: w
  outputs: {sum: total.outputs.sum, n: learn.outputs.n}
  blocks:
    step:
      inputs: {n: int}
      outputs: {n: "${{ task.work.outputs.n }}"}
      tasks:
        work:
          script:
            - echo work$SFLOW_ITERATION >> $SFLOW_WORKSPACE_DIR/made
            - if [ $SFLOW_ITERATION = 2 ] && [ ! -e $SFLOW_WORKSPACE_DIR/fixed ]; then exit 1; fi
            - if [ -e $SFLOW_WORKSPACE_DIR/hold ]; then sleep 600; fi
            - 'echo "{\\"n\\": $(( ${{ block.inputs.n }} + 1 ))}" > $SFLOW_OUTPUTS_FILE'
          outputs: {n: {type: int}}
  tasks:
    list:
      script: 'echo list >> $SFLOW_WORKSPACE_DIR/made; echo "{\\"names\\": [1, 2, 3]}" > $SFLOW_OUTPUTS_FILE'
      outputs: {names: {type: list}}
    each:
      foreach: ${{ task.list.outputs.names }}
      script:
        - echo each$SFLOW_ITEM >> $SFLOW_WORKSPACE_DIR/made
        - 'echo "{\\"v\\": $(( SFLOW_ITEM * ${{ variables.SCALE }} ))}" > $SFLOW_OUTPUTS_FILE'
      outputs: {v: {type: int}}
    total:
      python: total.py:main
      inputs: {values: {from: each.outputs.v, type: list}}
      outputs: {sum: {type: int}}
    learn:
      depends_on: total
      block: step
      with: {n: 0}
      loop: {max_iterations: 4, until: "${{ last.outputs.n >= 4 }}", carry: {n: "${{ last.outputs.n }}"}}
"""
TOTAL = "def main(values):\n    return sum(values)\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a run has failed in the third iteration of its loop, and would succeed now."""
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    (tmp_path / "total.py").write_text(TOTAL)
    assert sflow_ctl("run", "w.yaml", "--run-id", "one", cwd=tmp_path).returncode == 1
    (tmp_path / "fixed").touch()
    (tmp_path / "made").unlink()
    return tmp_path


def made(place: Path) -> list[str]:
    """Return what has run since the last call, in no order."""
    path = place / "made"
    found = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def outputs(place: Path, run: str) -> dict[str, object]:
    content = json.loads((place / f"sflow_output/{run}/.sflow/outputs.json").read_text())
    return {one["name"]: one["value"] for one in content["outputs"]}


def reuse(place: Path, *words: str, run: str = "two", status: int = 0) -> list[str]:
    """Run with these options; return what has run."""
    done = sflow_ctl("run", "w.yaml", "--run-id", run, *words, cwd=place)
    assert done.returncode == status, done.stdout + done.stderr
    return made(place)


def test_items_and_iterations_before_a_failure_are_taken_over(place: Path) -> None:
    planned = sflow_ctl("plan", "w.yaml", "--reuse", "one", "--json", cwd=place)
    words = {one["task"]: one["decision"] for one in json.loads(planned.stdout)["reuse"]}
    assert [words[f"each_{index}"] for index in range(3)] == ["hit"] * 3
    assert [words[f"learn_{index}.work"] for index in range(3)] == ["hit", "hit", "miss"]
    assert reuse(place, "--reuse", "one") == ["work2", "work3"]
    assert outputs(place, "two") == {"sum": 6, "n": 4}
    assert reuse(place, "--reuse", "two", run="three") == []
    assert outputs(place, "three") == {"sum": 6, "n": 4}


def test_work_that_has_changed_runs_again_with_what_was_made_of_it(place: Path) -> None:
    again = reuse(place, "--reuse", "one", "-s", "SCALE=2")
    assert again == ["each1", "each2", "each3", "list", "work0", "work1", "work2", "work3"]
    assert outputs(place, "two") == {"sum": 12, "n": 4}


def test_another_list_has_other_items(place: Path) -> None:
    done = sflow_ctl("outputs", "set", "one", "list", "names=[1,2,7,8]", cwd=place)
    assert done.returncode == 0, done.stderr
    again = reuse(place, "--reuse", "one")
    assert "list" not in again
    assert {"each7", "each8"} <= set(again)
    assert outputs(place, "two") == {"sum": 18, "n": 4}
    listed = sflow_ctl("keys", "two", "--json", cwd=place).stdout
    assert listed.count('"each_') >= 4


def test_another_start_of_a_loop_begins_it_anew(place: Path) -> None:
    text = (place / "w.yaml").read_text()
    (place / "w.yaml").write_text(text.replace("with: {n: 0}", "with: {n: 1}"))
    assert reuse(place, "--reuse", "one") == ["work0", "work1", "work2"]
    assert outputs(place, "two") == {"sum": 6, "n": 4}


def test_chosen_tasks_alone_are_taken_over(place: Path) -> None:
    chosen = [word for name in ("list", "each", "total") for word in ("--reuse", f"one:{name}")]
    assert reuse(place, *chosen) == ["work0", "work1", "work2", "work3"]


def test_a_live_run_and_a_run_that_reuses_and_is_killed(place: Path) -> None:
    (place / "hold").touch()
    live = Run.start(WORKFLOW, place, "--reuse", "one", run_id="live")
    try:
        live.wait_for("learn_2.work", "running")
        kill_run(live.process)
        nothing_left(live)
        (place / "hold").unlink()
        made(place)
        again = sflow_ctl("run", "--resume", live.directory, cwd=place)
        assert again.returncode == 0, again.stdout + again.stderr
        assert made(place) == ["work2", "work3"]
        assert outputs(place, "live") == {"sum": 6, "n": 4}
        summary = json.loads((live.directory / ".sflow/summary.json").read_text())
        attempts = {task["name"]: task["attempts"] for task in summary["tasks"]}
        assert attempts["each_1"] == attempts["learn_1.work"] == 0
        assert attempts["learn_2.work"] == 2
    finally:
        live.kill()


def test_a_run_that_still_continues_gives_what_it_has(place: Path) -> None:
    (place / "hold").touch()
    live = Run.start(WORKFLOW, place, "--reuse", "one", run_id="live")
    try:
        live.wait_for("learn_2.work", "running")
        (place / "hold").unlink()
        made(place)
        assert reuse(place, "--reuse", "live") == ["work2", "work3"]
        assert outputs(place, "two") == {"sum": 6, "n": 4}
    finally:
        live.kill()
