"""A controller that is killed between a task's end and the record of its outputs: the work is done once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Run, nothing_left, sflow_ctl, wait_until

SIZE = "1G"
"""Of a file without blocks: its digest takes a second or more, in which the controller is killed."""
WORKFLOW = f"""
version: "0.1"
workflow:
  name: w
  tasks:
    work:
      script:
        - echo once >> work.count
        - truncate -s {SIZE} "$SFLOW_TASK_OUTPUT_DIR/step_1.pt"
      outputs: {{model: {{path: "*.pt"}}}}
    use:
      inputs: {{model: {{from: work.outputs.model, env: MODEL}}}}
      script: ["stat -c %s $MODEL > used"]
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started = Run.start(WORKFLOW, tmp_path, "-q")
    yield started
    started.kill()


def await_exit(run: Run) -> bytes:
    """Wait until the journal has the exit, and return it."""
    journal = run.directory / ".sflow/events.jsonl"
    wait_until(lambda: b'"rank_exited"' in journal.read_bytes(), "the exit is in the journal")
    return journal.read_bytes()


def check_result(run: Run, cwd: Path) -> None:
    assert (cwd / "work.count").read_text() == "once\n"
    assert (cwd / "used").read_text() == f"{1 << 30}\n"
    recorded = json.loads((run.directory / "work/outputs.json").read_text())
    assert recorded["found"][0]["bytes"] == 1 << 30
    assert len(recorded["found"][0]["sha256"]) == 64


def test_a_resumed_run_finds_the_outputs_of_work_that_was_done(run: Run, tmp_path: Path) -> None:
    run.wait_for("work", "running")
    assert b'"outputs_found"' not in await_exit(run), "they were found already: nothing to see"
    run.kill_both()
    run.process.wait()
    nothing_left(run)
    looked = sflow_ctl("run", "--resume", run.directory, "--dry-run", cwd=tmp_path)
    assert "kept: work" in looked.stdout + looked.stderr
    done = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path, within_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    check_result(run, tmp_path)
    assert run.states() == {"work": "completed", "use": "completed"}
    again = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    check_result(run, tmp_path)


def test_a_successor_asks_for_the_outputs_again(run: Run, tmp_path: Path) -> None:
    run.wait_for("work", "running")
    assert b'"outputs_found"' not in await_exit(run), "they were found already: nothing to see"
    run.kill_controller()
    status, output = run.finish(120)
    assert status == 0, output
    check_result(run, tmp_path)


def test_a_resumed_run_does_work_again_whose_output_is_gone(tmp_path: Path) -> None:
    workflow = WORKFLOW.replace(SIZE, "5").replace("stat -c", "[ -e ok ] && stat -c")
    run = Run.start(workflow, tmp_path, "-q")
    try:
        status, output = run.finish()
        assert status == 1, output
        (run.directory / "work/step_1.pt").unlink()
        (tmp_path / "ok").touch()
        done = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "its output model is gone: " in done.stderr
        assert (tmp_path / "work.count").read_text() == "once\nonce\n"
        assert (tmp_path / "used").read_text() == "5\n"
    finally:
        run.kill()
