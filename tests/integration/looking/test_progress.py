"""`$SFLOW_PROGRESS_FILE`: what a running task says of itself is in `status`, its JSON and `explain`."""

import json
from pathlib import Path

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
