"""Loops whose controller, or whose every process, is killed in the middle of an iteration: they continue there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import EXAMPLES, Run, kill_run, sflow_ctl, wait_until

LOOP = """\
version: "0.1"
workflow:
  name: w
  blocks:
    step:
      inputs: {n: int}
      outputs: {n: "${{ task.last.outputs.n }}"}
      tasks:
        each:
          foreach: {count: 2}
          script: ['echo "{\\"v\\": $(( ${{ block.inputs.n }} + SFLOW_ITEM ))}" > $SFLOW_OUTPUTS_FILE']
          outputs: {v: {type: int}}
        last:
          inputs: {all: {from: each.outputs.v}}
          script:
            - echo "values $INPUT_ALL"
            - if [ $SFLOW_ITERATION = 6 ]; then until [ -e go ]; do sleep 0.05; done; fi
            - 'echo "{\\"n\\": $(( ${{ block.inputs.n }} + 1 ))}" > $SFLOW_OUTPUTS_FILE'
          outputs: {n: {type: int}}
  tasks:
    learn:
      block: step
      with: {n: 0}
      loop: {max_iterations: 9, until: "${{ last.outputs.n >= 8 }}", carry: {n: "${{ last.outputs.n }}"}}
    after: {depends_on: learn, script: ["echo ended with ${{ task.learn.outputs.n }}"]}
"""


@pytest.fixture
def in_iteration_7(tmp_path: Path) -> Iterator[Run]:
    run = Run.start(LOOP, tmp_path)
    try:
        run.wait_for("learn_6.last", "running")
        yield run
    finally:
        run.kill()


def attempts(run: Run) -> dict[str, int]:
    return {task.name: task.attempts for task in run.summary().tasks if task.name.startswith("learn_")}


def test_a_run_that_was_killed_in_iteration_7_continues_there(in_iteration_7: Run, tmp_path: Path) -> None:
    run = in_iteration_7
    kill_run(run.process)
    (tmp_path / "go").touch()
    done = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ended with 8" in done.stdout
    assert "[learn_5." not in done.stdout, "what had completed does not run again"
    counted = attempts(run)
    assert len(counted) == 24
    assert {name for name, count in counted.items() if count != 1} == {"learn_6.last"}


def test_a_successor_continues_in_iteration_7(in_iteration_7: Run, tmp_path: Path) -> None:
    run = in_iteration_7
    run.kill_controller()
    journal = run.directory / ".sflow/events.jsonl"
    wait_until(lambda: b'"kind":"takeover"' in journal.read_bytes(), "the run is taken over")
    (tmp_path / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    assert "ended with 8" in output
    assert set(attempts(run).values()) == {1}


def test_the_example_of_active_learning_ends_when_its_models_agree(tmp_path: Path) -> None:
    done = sflow_ctl("run", EXAMPLES / "active_learning.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[learn_4.select] disagreement 0.006 at 0.95" in done.stdout
    assert "[report] learned from 19 points" in done.stdout
    listed = json.loads(sflow_ctl("outputs", "--json", cwd=tmp_path).stdout)["outputs"]
    of_block = {one["name"]: one["value"] for one in listed if one["task"] == "learn"}
    assert (len(of_block["points"]), of_block["spread"] < 0.25) == (19, True)


def test_a_resumed_run_does_not_need_the_file_that_it_included(tmp_path: Path) -> None:
    head, _, rest = LOOP.partition("  blocks:\n")
    blocks, _, tasks = rest.partition("  tasks:\n    learn:")
    library = tmp_path / "library.yaml"
    library.write_text(f"{head}  blocks:\n{blocks}")
    main = head.replace("workflow:", "include: {lib: library.yaml}\nworkflow:")
    uses = tasks.replace("block: step", "block: lib.step")
    run = Run.start(f"{main}  tasks:\n    learn:{uses}", tmp_path)
    try:
        run.wait_for("learn_6.last", "running")
        kill_run(run.process)
        library.unlink()
        (tmp_path / "go").touch()
        done = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
    finally:
        run.kill()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ended with 8" in done.stdout
    assert set(attempts(run).values()) == {1, 2}
