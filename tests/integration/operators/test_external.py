"""Work that another system does: started, looked at until its end, cancelled when the run is stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import sflow_ctl, wait_until

WORKFLOW = """version: "0.1"
workflow:
  name: w
  tasks:
    work:
      external:
        start: |
          mkdir -p $SYSTEM && echo x >> $SYSTEM/starts && echo '{"state": "running"}' > $SYSTEM/state && echo id-7
        poll: test $EXTERNAL_ID = id-7 && cat $SYSTEM/state
        json: state
        success: done
        failure: [broken]
        every: 0.2s
        cancel: |
          echo $EXTERNAL_ID > $SYSTEM/cancelled; echo '{"state": "broken"}' > $SYSTEM/state
      outputs: {rows: {path: poll.json, json: rows, kind: param}}
    after: {inputs: {rows: {from: work.outputs.rows}}, script: ['echo has $INPUT_ROWS']}
"""


def prepare(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW)


def log(tmp_path: Path, task: str) -> str:
    path = tmp_path / "sflow_output/r" / task / f"{task}.log"
    return path.read_text() if path.exists() else ""


@pytest.fixture
def run(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A run of the workflow, which has ended when the test has."""
    prepare(tmp_path)
    started = subprocess.Popen(
        [sys.executable, "-m", "sflow_ctl", "run", "w.yaml", "--run-id", "r"],
        cwd=tmp_path,
        env={**os.environ, "SYSTEM": str(tmp_path / "system")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield started
    if started.poll() is None:
        started.terminate()
        started.wait(60)


def test_it_is_watched_to_its_end_and_its_values_are_outputs(
    tmp_path: Path, run: "subprocess.Popen[bytes]"
) -> None:
    system = tmp_path / "system"
    wait_until(lambda: "is running" in log(tmp_path, "work"), "the first look", 60)
    part = system / "part"
    part.write_text('{"state": "done", "rows": 12}')
    part.rename(system / "state")
    assert run.wait(60) == 0
    assert log(tmp_path, "after") == "has 12\n"
    assert not (system / "cancelled").exists()


def test_a_word_of_failure_fails_the_task(tmp_path: Path) -> None:
    text = WORKFLOW.replace('echo \'{"state": "running"}\'', 'echo \'{"state": "broken"}\'')
    (tmp_path / "w.yaml").write_text(text)
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path, env={"SYSTEM": f"{tmp_path}/system"})
    assert done.returncode == 1
    assert "job id-7 has ended: broken" in log(tmp_path, "work")


def test_a_stop_cancels_it(tmp_path: Path, run: "subprocess.Popen[bytes]") -> None:
    wait_until(lambda: "is running" in log(tmp_path, "work"), "the first look", 60)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    assert (tmp_path / "system/cancelled").read_text() == "id-7\n"
