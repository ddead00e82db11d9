"""Slurm backends with jobs of their own: one salloc each, agents in all of them, and nothing left of any."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.fake_slurm import FakeSlurm
from tests.support import Run, sflow_ctl, wait_until

WORKFLOW = """version: "0.1"
variables: {LONG: 0}
backends:
  big: {type: slurm, account: a, partition: g, time: "01:00:00", nodes: 2, gpus_per_node: 4,
    extra_args: ["--gres=gpu:4 --qos=low"]}
  small: {type: slurm, account: a, partition: c, time: "00:30:00", nodes: 1, gpus_per_node: 0, exclude_nodes: [c9]}
workflow:
  name: w
  tasks:
    - name: server
      backend: big
      script: ["echo $SFLOW_TASK_NODE_NAME $SFLOW_BACKEND_JOB_ID $SLURM_JOB_ID $SFLOW_BACKEND_NODELIST; echo it is up; sleep 600"]
      probes: {readiness: {log_watch: {regex_pattern: it is up}}}
    - name: client
      backend: small
      depends_on: [server]
      script: ["echo $SFLOW_TASK_NODE_NAME $SFLOW_BACKEND_JOB_ID $SLURM_JOB_ID $SFLOW_BACKEND_NODELIST", "sleep $LONG"]
"""
CASES = Path(__file__).parents[1] / "conformance" / "sflow_0_3"
JOBS = {"g": ("g1", "g2"), "c": ("c1",)}


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    """A login node on which salloc grants a job in each partition."""
    fake = FakeSlurm(tmp_path)
    fake.grants(JOBS)
    return fake


def start(slurm: FakeSlurm, env: Mapping[str, str], *options: str) -> Run:
    return Run.start(WORKFLOW, slurm.directory.parent, "--interface", "lo", *options, env=env)


def log(run: Run, task: str) -> str:
    return (run.directory / task / f"{task}.log").read_text()


def test_outside_of_a_job_each_backend_gets_its_own(slurm: FakeSlurm) -> None:
    run = start(
        slurm, slurm.login_environment(), "-e", "--qos=high", "--extra-salloc-args", "--comment='a b'"
    )
    code, output = run.finish()
    assert code == 0, output
    assert "0: g1 1 1 g1,g2\n" in log(run, "server")
    assert "1: g2 1 1 g1,g2\n" in log(run, "server")
    assert log(run, "client") == "c1 2 2 c1\n"
    said = "--qos=high --comment=a b []"
    assert sorted(slurm.requests()[:2]) == [
        f"salloc --account a --partition c --nodes 1 --time 00:30:00 --job-name w --no-shell --exclude=c9 {said}",
        f"salloc --account a --partition g --nodes 2 --time 01:00:00 --job-name w --no-shell --gres=gpu:4 {said}",
    ]
    assert sorted(slurm.requests()[2:]) == ["scancel 1", "scancel 2"]
    assert {word for call in slurm.calls() for word in call if word.startswith("--jobid")} == {
        "--jobid=1",
        "--jobid=2",
    }


def test_the_jobs_are_requested_at_the_same_time(slurm: FakeSlurm) -> None:
    """One after the other, the first would idle while the second waits in the queue."""
    (slurm.directory / "hold").touch()
    file = slurm.directory.parent / "w.yaml"
    file.write_text(WORKFLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "sflow_ctl", "run", "w.yaml", "--interface", "lo"],
        cwd=file.parent,
        env={**os.environ, **slurm.login_environment()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(slurm.requests()) == 2, "both jobs are requested while none is granted")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    (slurm.directory / "hold").unlink()
    wait_until(lambda: sorted(slurm.requests()[2:]) == ["scancel 1", "scancel 2"], "both are withdrawn")


def test_if_one_is_refused_the_other_is_given_back(slurm: FakeSlurm) -> None:
    (slurm.directory / "refuse").write_text("c\n")
    (slurm.directory.parent / "w.yaml").write_text(WORKFLOW)
    done = sflow_ctl(
        "run", "w.yaml", "--interface", "lo", cwd=slurm.directory.parent, env=slurm.login_environment()
    )
    assert done.returncode == 3
    assert "Slurm grants no nodes" in done.stderr
    assert "scancel 1" in slurm.requests()


def test_a_killed_controller_gives_all_jobs_back(slurm: FakeSlurm) -> None:
    run = start(slurm, slurm.login_environment(), "-s", "LONG=600")
    run.wait_for("client", "running")
    run.kill_both()
    run.finish()
    wait_until(lambda: sorted(slurm.requests()[2:]) == ["scancel 1", "scancel 2"], "both jobs are cancelled")


def test_in_the_job_of_one_backend_the_others_get_theirs(slurm: FakeSlurm) -> None:
    """As in the job that `batch` makes; nothing of that job reaches the other requests and steps."""
    job = {
        "SFLOW_SLURM_MULTI_BACKEND_SALLOC": "1",
        "SFLOW_SLURM_WRAPPER_BACKEND": "big",
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NODELIST": "g1,g2",
    }
    run = start(slurm, {**slurm.login_environment(), **job})
    code, output = run.finish()
    assert code == 0, output
    assert "0: g1 1 1 g1,g2\n" in log(run, "server")
    assert log(run, "client") == "c1 2 2 c1\n"
    assert [line.split()[0] for line in slurm.requests()] == ["salloc", "scancel"]
    assert "--partition c " in slurm.requests()[0]
    assert slurm.requests()[0].endswith("[]")
    assert slurm.requests()[1] == "scancel 2"


def test_the_job_that_batch_makes_is_the_largest_backends(slurm: FakeSlurm) -> None:
    folder = slurm.directory.parent
    (folder / "w.yaml").write_text(WORKFLOW)
    options = ("-N", "7", "-p", "x", "-G", "2", "-e", "--gres=gpu:2", "--include-nodes", "g1 g2 c1")
    made = sflow_ctl("batch", "w.yaml", "-o", "job.sh", *options, cwd=folder)
    assert made.returncode == 0, made.stderr
    assert (
        "the job is for backend big; the run in it asks for a job of its own for each of: small"
        in made.stderr
    )
    assert "-p, -N, -G have no effect" in made.stderr
    script = (folder / "job.sh").read_text()
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"--partition=g", "--account=a", "--nodes=2", "--time=01:00:00"} < set(lines)
    assert "--nodelist=g1,g2,c1 --qos=low" in lines
    assert lines[-1] == "--gres=gpu:2"
    assert "--extra-salloc-args=--gres=gpu:2" in script
    job = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "g1,g2", "SFLOW_INTERFACE": "lo"}
    ran = subprocess.run(
        ["bash", "job.sh"],
        cwd=folder,
        env={**os.environ, **slurm.login_environment(), **job},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (run,) = (path for path in (folder / "sflow_output").iterdir() if path.name.startswith("1-w-"))
    assert (run / "client" / "client.log").read_text() == "c1 2 2 c1\n"
    assert "--gres=gpu:2" in slurm.requests()[0]


def test_30_the_case_of_sflow_runs_in_two_jobs(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    slurm.grants({"g": ("n1", "n2"), "c": ("n1",)})  # two jobs may share a node
    case = next(CASES.glob("30*.yaml")).read_text()
    run = Run.start(case, tmp_path, "--interface", "lo", env=slurm.login_environment())
    code, output = run.finish()
    assert code == 0, output
    assert len(log(run, "big").splitlines()) == 2
    assert len(log(run, "small").splitlines()) == 1
    asked = next(line for line in slurm.requests() if "--partition g" in line)
    assert "--nodelist=n1,n2 --exclude=n9" in asked
