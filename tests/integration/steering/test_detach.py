"""`run --detach` and `cancel`: a run that no terminal reaches, and its end."""

import os
import pty
import subprocess
from pathlib import Path

from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim
from tests.support import (
    PATIENCE_S,
    Run,
    command,
    is_alive,
    kill_at_once,
    nothing_left,
    read_json,
    sflow_ctl,
    wait_until,
)

WORKFLOW = """version: "0.1"
workflow:
  name: long
  tasks:
    - {name: t, script: ["echo up; sleep 600"]}
"""


def supervisor_of(directory: Path) -> int:
    claim = read_claim(directory / layout.CLAIM)
    assert claim is not None
    return claim.supervisor


def test_a_detached_run_outlives_its_terminal_and_is_cancelled(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    master, slave = pty.openpty()
    caller = subprocess.Popen(
        command("run", "--detach", "w.yaml", "--run-id", "far"),
        cwd=tmp_path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    assert caller.wait(PATIENCE_S) == 0
    shown = os.read(master, 65536).decode()
    os.close(master)  # the terminal is gone
    assert shown.endswith("far\r\n")
    directory = tmp_path / "sflow_output/far"
    supervisor = supervisor_of(directory)
    try:
        assert os.getsid(supervisor) != os.getsid(0)
        console = directory / ".sflow/console.log"
        wait_until(lambda: "[t] up\n" in console.read_text(), "its output is in the file")
        assert console.stat().st_mode & 0o777 == 0o600
        done = sflow_ctl("cancel", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "stopping the run: 1 live task\n")
        assert read_json(directory / layout.SUMMARY)["exit_status"] == 130  # type: ignore[index]
        wait_until(lambda: not is_alive(supervisor), "its supervisor has ended")
        assert "interrupted" in console.read_text()
    finally:
        kill_at_once([pid for pid in (supervisor,) if is_alive(pid)])
    done = sflow_ctl("cancel", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[run-has-ended]: the run far has already ended" in done.stderr


def test_what_keeps_a_detached_run_from_beginning_is_shown_at_once(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("script", "scripd"))
    done = sflow_ctl("run", "--detach", "w.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'unknown key "scripd"' in done.stderr
    assert not (tmp_path / "sflow_output").exists()


def test_cancel_says_that_a_run_died(tmp_path: Path) -> None:
    run = Run.start(WORKFLOW, tmp_path, run_id="gone")
    try:
        run.wait_for("t", "running")
        run.kill_both()
        run.process.wait()
        nothing_left(run)
        done = sflow_ctl("cancel", "gone", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (3, "")
        assert "error[run-died]: gone died" in done.stderr
    finally:
        run.kill()


def test_a_hint_of_an_ended_run_names_its_task_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: RUN, script: "true"}]}\n'
    )
    assert sflow_ctl("run", "w.yaml", "--run-id", "far", cwd=tmp_path).returncode == 0
    done = sflow_ctl("restart", "far", "RUN", cwd=tmp_path)
    assert "sflow-ctl rerun far RUN runs them again" in done.stderr
