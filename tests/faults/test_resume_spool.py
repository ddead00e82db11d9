"""Logs that agents wrote to their spool: what had not arrived when the controller died is there after a resume."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import Run, command, kill_run, nothing_left, sflow_ctl, wait_until

FLOOD = "seq 1 3000000; touch printed; sleep 600"
FLOOD_BYTES = sum(9 * 10**digits * (digits + 2) for digits in range(6)) + (3_000_000 - 999_999) * 8
WORKFLOW = f"""
version: "0.1"
workflow:
  name: w
  tasks:
    - {{name: t, script: ["test -e go && {{ echo again; exit; }}; {FLOOD}"]}}
"""


@pytest.mark.parametrize("deaths", [1, 2])
def test_r7_a_log_that_had_not_arrived_is_there_after_a_resume(tmp_path: Path, deaths: int) -> None:
    """With two, a resume that has taken the spool over is killed as well."""
    spool = tmp_path / "spool"
    run = Run.start(WORKFLOW, tmp_path, "--log-spool", str(spool), "-q")
    try:
        run.wait_for("t", "running")
        os.kill(run.controller, signal.SIGSTOP)
        wait_until((tmp_path / "printed").exists, "all is printed")
        (left,) = spool.glob("sflow-*")
        wait_until(lambda: (left / "t/t.log").stat().st_size >= FLOOD_BYTES, "all is in the spool")
        printed = (left / "t/t.log").read_bytes()
        run.kill_both()
        run.process.wait()
        nothing_left(run)
        assert (run.directory / "t/t.log").stat().st_size < len(printed), "all has arrived: nothing to see"
        if deaths == 2:
            resume_and_kill(run, tmp_path)
        (tmp_path / "go").touch()
        done = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (run.directory / "t/t.attempt-1.log").read_bytes() == printed
        assert (run.directory / "t/t.log").read_text() == "again\n"
        assert "had not arrived before the run was resumed" in (run.directory / "sflow.log").read_text()
        assert list(spool.glob("sflow-*")) == []
    finally:
        run.kill()


def resume_and_kill(run: Run, cwd: Path) -> None:
    """Resume a run, and kill its controller once its agent has taken over what the last one had left."""
    resumed = command("run", "--resume", run.directory, "-q")
    with subprocess.Popen(resumed, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: list(cwd.glob("spool/*/.earlier/*")), "the spool is taken over")
        kill_run(process)
    nothing_left(run)


def test_r36_what_the_controller_has_of_a_log_leaves_the_spool(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    flood = 'script: ["seq 1 6000000; echo now ready; sleep 600"]'
    probe = 'probes: {readiness: {log_watch: {regex_pattern: "now ready"}}}'
    tasks = f"{{name: t, {flood}, {probe}}}\n    - {{name: u, depends_on: [t], script: [sleep 600]}}"
    workflow = f'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n    - {tasks}\n'
    run = Run.start(workflow, tmp_path, "--log-spool", str(spool), "-q")
    try:
        run.wait_for("u", "running")
        (left,) = spool.glob("sflow-*")
        printed = left / "t/t.log"
        size = printed.stat().st_size
        assert size > 40_000_000
        wait_until(lambda: printed.stat().st_blocks * 512 < 8_000_000, "its blocks are given back")
        wait_until(lambda: (run.directory / "t/t.log").stat().st_size == size, "the controller has all")
        with printed.open("rb") as file:
            assert file.read(1000).startswith(b"1\n2\n3\n")
        lines = (run.directory / "t/t.log").read_bytes().splitlines()
        assert len(lines) == 6_000_001
        assert lines[-2:] == [b"6000000", b"now ready"]
    finally:
        run.kill()
