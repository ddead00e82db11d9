"""`$SFLOW_PROGRESS_FILE`: what a running task says of itself is in `status`, its JSON and `explain`."""

import json
from pathlib import Path

import pytest

from tests.support import Run, sflow_ctl, wait_until

WORKFLOW = """
version: "0.1"
workflow:
  name: w
  tasks:
    - name: train
      retries: {count: 1, interval: 0s}
      script:
        - 'if [ ! -e again ]; then touch again; echo 99/100 > "$SFLOW_PROGRESS_FILE"; sleep 0.2; exit 1; fi'
        - 'while [ ! -e say ]; do sleep 0.05; done'
        - echo '{"current":3,"total":4,"message":"epoch 3"}' >> "$SFLOW_PROGRESS_FILE"
        - 'while [ ! -e stop ]; do sleep 0.05; done'
"""


def test_progress_is_shown_while_a_task_runs_and_is_that_of_its_attempt(tmp_path: Path) -> None:
    run = Run.start(WORKFLOW, tmp_path)
    try:

        def task() -> dict[str, object]:
            said = sflow_ctl("status", "r", "--json", cwd=tmp_path).stdout
            (found,) = json.loads(said)["tasks"]
            return dict(found)

        wait_until(lambda: task()["attempts"] == 2 and task()["state"] == "running", "the second attempt")
        assert "progress" not in task() or task()["progress"] is None
        (tmp_path / "say").touch()
        expected = {"current": 3.0, "total": 4.0, "message": "epoch 3"}
        wait_until(lambda: task().get("progress") == expected, "the progress")
        assert "train: 3 of 4 (75 %): epoch 3" in sflow_ctl("status", "r", cwd=tmp_path).stdout
        assert "it says that it is at 3 of 4" in sflow_ctl("explain", "r", "train", cwd=tmp_path).stdout
    finally:
        (tmp_path / "stop").touch()
        status, _ = run.finish()
    assert status == 0
    assert "3 of 4" not in sflow_ctl("status", "r", cwd=tmp_path).stdout


OF_LOG = r"""
version: "0.1"
workflow:
  name: w
  tasks:
    - name: train
      progress: {log_regex: 'step (\d+)/(\d+)'}
      script:
        - printf 'step 1/8\nstep 6/8\nother\nstep 7/8 is not whole'
        - 'while [ ! -e stop ]; do sleep 0.05; done'
"""


def test_lines_of_the_log_say_how_far_a_task_is(tmp_path: Path) -> None:
    run = Run.start(OF_LOG, tmp_path)
    try:
        wait_until(
            lambda: "train: 6 of 8 (75 %)" in sflow_ctl("status", "r", cwd=tmp_path).stdout, "progress"
        )
        assert "it says that it is at 6 of 8" in sflow_ctl("explain", "r", "train", cwd=tmp_path).stdout
        made = sflow_ctl("report", "r", "--json", cwd=tmp_path)
        (task,) = json.loads(made.stdout)["tasks"]
        assert task["progress"] == "6 of 8 (75 %)"
        written = sflow_ctl("report", "r", "--output", "page.html", cwd=tmp_path)
        assert written.returncode == 0, written.stderr
        assert "6 of 8 (75 %)" in (tmp_path / "page.html").read_text()
    finally:
        (tmp_path / "stop").touch()
        run.finish()


@pytest.mark.parametrize(
    ("regex", "problem"),
    [
        ("step (", "is not a regular expression"),
        ("step", "has no group for what is done"),
        ("(?P<message>.)", "has no group for what is done"),
        ("(?P<step>.)", 'has a group called "step"'),
    ],
)
def test_an_expression_that_says_nothing_is_refused(tmp_path: Path, regex: str, problem: str) -> None:
    (tmp_path / "w.yaml").write_text(OF_LOG.replace(r"step (\d+)/(\d+)", regex, 1))
    done = sflow_ctl("plan", "w.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert problem in done.stdout + done.stderr
    assert "w.yaml:7:" in done.stdout + done.stderr
