"""Stops as a user sees them: commands, output meanwhile, hangs, the limit of a run's end."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Run, lines_with, nothing_left, sflow_ctl, wait_until

LINE = "a line of the last megabyte"
LINES = 40_000
"""A bit more than a megabyte."""
DRAIN = """version: "0.1"
workflow:
  name: drain
  tasks:
    - name: server
      script:
        - "trap 'yes a line of the last megabyte | head -n LINES; echo drained; exit 0' TERM"
        - "echo up; while :; do sleep 0.05; done"
      probes: {readiness: {log_watch: {match_pattern: up}}}
      stop: {grace: 60s}
    - {name: client, depends_on: [server], script: ["true"]}
"""
HANG = """version: "0.1"
backends: {pool: {type: slurm, account: a, partition: p, time: 10, nodes: 2, gpus_per_node: 2}}
operators: {both: {type: srun, ntasks_per_node: 2}}
workflow:
  name: hang
  tasks:
    - name: gang
      operator: both
      script:
        - "echo begin; if [ $SFLOW_RANK = 3 ]; then while ! test -e STOP; do echo on; sleep 0.1; done; fi; sleep 1000"
      hang: {no_output_for: 1s, command: "echo looked into rank $SFLOW_RANK"}
"""
LATE = """version: "0.1"
workflow:
  name: late
  stop_timeout: 1s
  tasks:
    - name: deaf
      script: ["trap '' TERM; echo up; while true; do sleep 0.1; done"]
      stop: {command: "sleep 1000", timeout: 10m, grace: 10m}
      probes: {readiness: {log_watch: {match_pattern: up}}}
    - {name: client, depends_on: [deaf], script: ["true"]}
    - {name: last, finally: true, script: ["echo never"]}
"""


@pytest.fixture
def started() -> Iterator[list[Run]]:
    """Runs that a test starts; remaining processes are killed by pid."""
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.kill()


@pytest.mark.parametrize("is_spooled", [False, True])
def test_output_of_a_task_being_stopped_is_complete_and_shown(is_spooled: bool, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(DRAIN.replace("LINES", str(LINES)))
    spool = ("--log-spool", str(tmp_path / "spool")) if is_spooled else ()
    ended = sflow_ctl("run", "w.yaml", "--run-id", "r", *spool, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout[-2000:]
    log = (tmp_path / "sflow_output" / "r" / "server" / "server.log").read_text()
    assert log.splitlines().count(LINE) == LINES
    assert log.splitlines()[-1] == "drained"
    assert [f"[server] {line}" for line in log.splitlines()] == lines_with(ended.stdout, "[server] ")


def test_a_gang_hangs_once_its_last_rank_is_silent_and_every_rank_is_looked_into(
    started: list[Run], tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    run = Run.start(HANG.replace("STOP", str(stop)), tmp_path, "--nodes", "2")
    started.append(run)
    run.wait_for("gang", "running")
    stop.touch()
    status, output = run.finish()
    assert status == 1
    assert "task gang hangs: it has printed nothing for 1 s; see gang/gang.hang.log" in output
    assert run.states() == {"gang": "timeout"}
    looked = (run.directory / "gang" / "gang.hang.log").read_text()
    assert all(f"looked into rank {rank}\n" in looked for rank in range(4)), looked
    nothing_left(run)


def test_an_end_that_takes_too_long_is_forced_and_names_the_tasks(started: list[Run], tmp_path: Path) -> None:
    run = Run.start(LATE, tmp_path)
    started.append(run)
    status, output = run.finish()
    assert "warning: the run did not end within its stop_timeout of 1 s; killed: deaf" in output
    assert run.states()["last"] == "cancelled"
    assert status == 0, output
    nothing_left(run)


def test_a_second_ctrl_c_waits_for_no_stop_command(started: list[Run], tmp_path: Path) -> None:
    run = Run.start(LATE.replace("stop_timeout: 1s", "stop_timeout: 10m"), tmp_path)
    started.append(run)
    run.wait_for("deaf", "stopping")
    run.process.send_signal(signal.SIGINT)
    stopped = "StopRequested"
    wait_until(lambda: stopped in [type(e.event).__name__ for e in run.entries()], "the first is taken in")
    run.process.send_signal(signal.SIGINT)
    run.finish()
    nothing_left(run, within_s=5.0)


def test_a_failing_stop_command_is_reported_and_its_output_kept(tmp_path: Path) -> None:
    workflow = LATE.replace('"sleep 1000"', '"echo cannot; exit 4"').replace("10m}", "0}")
    (tmp_path / "w.yaml").write_text(workflow)
    ended = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert "warning: deaf#1: its stop command exited with 4: cannot; its signal follows" in ended.stdout
    kept = (tmp_path / "sflow_output" / "r" / "deaf" / "deaf.stop.log").read_text()
    assert kept.endswith("deaf#1 on localhost: exited with 4\ncannot\n")
