"""Controllers of Slurm jobs that are killed: the supervisor in the batch step starts another one, and agents elsewhere stay."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fake_slurm import FakeSlurm
from tests.faults.test_slurm_launch import finish, start
from tests.support import Run, await_takeover, both_of, controller_of, kill_run, wait_until

TASKS = """    - name: server
      kind: service
      script: ['echo up; while true; do date +%N; sleep 0.05; done']
      probes: {readiness: {log_watch: {match_pattern: up}}}
    - {name: t, depends_on: [server], script: ['until [ -e go ]; do sleep 0.05; done; echo done']}
"""


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    made: list[Run] = []
    yield made
    for run in made:
        run.kill()


def begin(runs: list[Run], slurm: FakeSlurm, tmp_path: Path, *options: str) -> Run:
    """Start a run in the job; return once its client runs."""
    process = start(slurm, TASKS, *options)
    run = Run(process, tmp_path / "sflow_output/r")
    runs.append(run)
    run.wait_for("t", "running")
    return run


@pytest.mark.parametrize("options", [(), ("--log-spool", "SPOOL")], ids=["shared", "spooled"])
def test_agents_of_a_job_say_hello_to_the_controller_that_takes_over(
    runs: list[Run], tmp_path: Path, options: tuple[str, ...]
) -> None:
    slurm = FakeSlurm(tmp_path)
    run = begin(runs, slurm, tmp_path, *(one.replace("SPOOL", str(tmp_path / "spool")) for one in options))
    server, agents = run.pid_of("server"), run.agents()
    os.kill(controller_of(run.process.pid), signal.SIGKILL)
    await_takeover(run.directory)
    (tmp_path / "go").touch()
    status, output = finish(run.process)
    assert status == 0, output
    assert run.pid_of("server") == server
    assert run.agents() == agents
    assert len(slurm.calls()) == 1, "agents were started once"
    (takeover,) = run.summary().takeovers
    assert (takeover.signal, takeover.tasks, takeover.missing) == ("SIGKILL", 2, ())
    for rank in (0, 1):
        lines = (run.directory / f"server/server.rank-{rank}.log").read_text().splitlines()
        assert lines[0] == "up"
        assert all(len(line) == 9 for line in lines[1:]), "no byte is missing, none is there twice"


def test_the_end_of_the_step_is_seen_by_the_controller_that_took_over(
    runs: list[Run], tmp_path: Path
) -> None:
    slurm = FakeSlurm(tmp_path)
    run = begin(runs, slurm, tmp_path)
    run.kill_controller()
    await_takeover(run.directory)
    (srun,) = srun_below(run.process.pid)
    os.kill(srun, signal.SIGTERM)
    status, output = finish(run.process)
    assert status in (1, 3), output
    assert "the agents' job step (srun) ended with 143" in output + (run.directory / "sflow.log").read_text()


def srun_below(pid: int) -> list[int]:
    """The job steps that are a process's children."""
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in below if b"fake_srun" in Path(f"/proc/{one}/cmdline").read_bytes()]


def test_agents_end_within_their_grace_when_nothing_takes_over(runs: list[Run], tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    run = begin(runs, slurm, tmp_path, "--orphan-grace", "2")
    server = run.pid_of("server")
    kill_run(run.process)
    finish(run.process)
    wait_until(lambda: not Path(f"/proc/{server}").exists(), "its service has ended", 20)


RESUME = ("run", "--resume", "sflow_output/r", "--interface", "lo")


def resume(slurm: FakeSlurm, tmp_path: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sflow_ctl", *RESUME, *options],
        cwd=tmp_path,
        env={**os.environ, **slurm.environment()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_resume_adopts_the_agents_that_supervisor_and_controller_have_left(
    runs: list[Run], tmp_path: Path
) -> None:
    slurm = FakeSlurm(tmp_path)
    run = begin(runs, slurm, tmp_path, "--orphan-grace", "40")
    server, agents = run.pid_of("server"), run.agents()
    kept = run.directory / ".sflow/succession"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert run.directory.stat().st_mode & 0o777 == 0o700
    kill_run(run.process)
    finish(run.process)
    again = Run(resume(slurm, tmp_path), run.directory)
    runs.append(again)
    await_takeover(run.directory)
    second = resume(slurm, tmp_path)
    assert "is still running" in finish(second)[1], "one controller at a time"
    (tmp_path / "go").touch()
    status, output = finish(again.process)
    assert status == 0, output
    assert "incarnation 2 took over 2 tasks in" in output
    assert (again.pid_of("server"), again.agents()) == (server, agents)
    assert len(slurm.calls()) == 1, "agents were started once"
    assert [(one.signal, one.tasks, one.missing) for one in run.summary().takeovers] == [("", 2, ())]
    for rank in (0, 1):
        lines = (run.directory / f"server/server.rank-{rank}.log").read_text().splitlines()
        assert lines[0] == "up"
        assert all(len(line) == 9 for line in lines[1:]), "no byte is missing, none is there twice"
    assert not kept.exists(), "no key outlives the run"
    assert not (run.directory / ".sflow/controller.json").exists()


def test_the_end_of_the_step_is_seen_by_a_resume_that_adopted_its_agents(
    runs: list[Run], tmp_path: Path
) -> None:
    """No process waits for its srun any more; it is watched all the same. Silence would show its end after half a minute."""
    slurm = FakeSlurm(tmp_path)
    run = begin(runs, slurm, tmp_path, "--orphan-grace", "40")
    (srun,) = (one for pid in both_of(run.process.pid) for one in srun_below(pid))
    kill_run(run.process)
    finish(run.process)
    again = Run(resume(slurm, tmp_path), run.directory)
    runs.append(again)
    await_takeover(run.directory)
    again.kill_controller()  # and again by the controller that follows this one
    await_takeover(run.directory, 2)
    os.kill(srun, signal.SIGTERM)
    status, output = finish(again.process)
    assert status in (1, 3), output
    assert "the agents' job step (srun) has ended" in output + (run.directory / "sflow.log").read_text()


def test_a_resume_starts_again_where_others_could_have_read_the_keys(runs: list[Run], tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    run = begin(runs, slurm, tmp_path, "--orphan-grace", "40")
    kill_run(run.process)
    finish(run.process)
    (run.directory / ".sflow").chmod(0o755)
    (tmp_path / "go").touch()
    status, output = finish(resume(slurm, tmp_path))
    assert status == 0, output
    assert "what still runs of it is ended first, and unfinished tasks start again" in output
    assert "is open to others, so no keys are kept there" in output
    assert run.summary().takeovers == ()


OWN = """version: "0.1"
backends: {own: {type: slurm, account: a, partition: g, time: "01:00:00", nodes: 2, gpus_per_node: 0}}
workflow:
  name: w
  tasks:
    - {name: t, resources: {nodes: {count: 2}}, script: ['echo up; until [ -e go ]; do sleep 0.05; done; echo done']}
"""


def test_a_job_that_the_run_has_requested_itself_outlives_its_controller(
    runs: list[Run], tmp_path: Path
) -> None:
    """It is held as long as the supervisor or a controller lives, and is cancelled at the end of the run."""
    slurm = FakeSlurm(tmp_path)
    slurm.grants({"g": ("g1", "g2")})
    run = Run.start(OWN, tmp_path, "--interface", "lo", env=slurm.login_environment())
    runs.append(run)
    run.wait_for("t", "running")
    agents = run.agents()
    run.kill_controller()
    await_takeover(run.directory)
    assert [one for one in slurm.requests() if one.startswith("scancel")] == []
    assert not (run.directory / ".sflow/succession").exists(), "nothing could be adopted without the job"
    (tmp_path / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    assert run.agents() == agents
    assert [(one.signal, one.missing) for one in run.summary().takeovers] == [("SIGKILL", ())]
    assert [one for one in slurm.requests() if one.startswith("scancel")] == ["scancel 1"], "before its exit"
