"""Loops whose controller, or whose every process, is killed in the middle of an iteration: they continue there."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import EXAMPLES, Run, await_takeover, kill_run, sflow_ctl, wait_until

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
    await_takeover(run.directory)
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


def begun(directory: Path, task: str) -> bool:
    journal = directory / ".sflow/events.jsonl"
    return journal.exists() and f'"task":"{task}"' in journal.read_text()


def test_the_example_of_active_learning_is_killed_and_continues(tmp_path: Path) -> None:
    run = Run.start((EXAMPLES / "active_learning.yaml").read_text(), tmp_path)
    try:
        wait_until(lambda: begun(run.directory, "learn_2.select"), "it is in its third iteration")
        kill_run(run.process)
        done = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[report] learned from 19 points" in done.stdout
        assert "[learn_0." not in done.stdout
    finally:
        run.kill()


def test_the_example_in_python_finds_the_same_and_continues_after_a_crash(tmp_path: Path) -> None:
    program = [sys.executable, str(EXAMPLES / "active_learning.py")]
    done = subprocess.run(
        [*program, "--run-id", "whole"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("learned from 19 points, spread 0.006\n"), done.stdout + done.stderr
    process = subprocess.Popen(
        [*program, "--run-id", "cut"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    directory = tmp_path / "sflow_output/cut"
    try:
        wait_until(lambda: begun(directory, "learn_2.select"), "it is in its third iteration")
        (claim,) = [json.loads((directory / ".sflow/controller.lock").read_text())]
        for pid in (claim["supervisor"], claim["pid"]):
            os.kill(pid, signal.SIGKILL)
        process.wait(60)
    finally:
        process.kill()
    resumed = sflow_ctl("run", "--resume", directory, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    outputs = json.loads((directory / ".sflow/outputs.json").read_text())["outputs"]
    values = {one["name"]: one["value"] for one in outputs}
    assert len(values["points"]) == 19
    assert "[learn_0." not in resumed.stdout


@pytest.mark.parametrize("whole", [False, True])
def test_an_applied_loop_survives_the_end_of_its_controller(
    whole: bool, in_iteration_7: Run, tmp_path: Path
) -> None:
    run = in_iteration_7
    (tmp_path / "longer.yaml").write_text(LOOP.replace("outputs.n >= 8", "outputs.n >= 9"))
    done = sflow_ctl("apply", run.directory, "longer.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "changed learn" in done.stdout
    if whole:
        kill_run(run.process)
    else:
        run.kill_controller()
    (tmp_path / "go").touch()
    if whole:
        again = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
        assert again.returncode == 0, again.stdout + again.stderr
        output = again.stdout
    else:
        status, output = run.finish()
        assert status == 0, output
    assert "ended with 9" in output
    counted = attempts(run)
    assert len(counted) == 27
    again_ran = {name for name, count in counted.items() if count != 1}
    assert again_ran == ({"learn_6.last"} if whole else set())


def test_another_start_of_a_live_loop_begins_it_anew(in_iteration_7: Run, tmp_path: Path) -> None:
    run = in_iteration_7
    (tmp_path / "later.yaml").write_text(LOOP.replace("with: {n: 0}", "with: {n: 6}"))
    done = sflow_ctl("apply", run.directory, "later.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    assert "ended with 8" in output
    states = {task.name: str(task.state) for task in run.summary().tasks}
    assert states["learn_1.last"] == "completed"
    assert "values [7,8]" in (run.directory / "learn_1.last/learn_1.last.log").read_text()
