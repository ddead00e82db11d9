"""Jobs of Slurm of their own, with stand-ins for its programs: states, losses, and whole runs that are stopped or killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.messages.jobs import JobSpec
from protocol.plugins import WorkState
from sflow_agent.jobs import slurm
from sflow_agent.jobs.driver import JobError
from sflow_agent.jobs.slurm import SlurmJobs
from tests.integration.operators.fake_slurm import FakeSlurm
from tests.support import sflow_ctl, wait_until

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    made = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", made.path(os.environ["PATH"]))
    yield made
    made.close()


def driver(tmp_path: Path, *command: str, every_s: float = 0.0) -> SlurmJobs:
    """One task's job. With `every_s` 0 each look asks squeue."""
    (tmp_path / "run/.sflow").mkdir(parents=True, exist_ok=True)
    (tmp_path / "run/t").mkdir(exist_ok=True)
    spec = JobSpec(kind="slurm", name="t", options=("--nodes=1",), every_s=every_s)
    env = {**os.environ, "SLURM_JOB_ID": "77", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_QOS": "x"}
    run = f"{tmp_path}/run"
    return SlurmJobs(spec, command or ("sh", "-c", "echo hi; exit 3"), f"{run}/t", run, env, str(tmp_path))


def ended(jobs: SlurmJobs, id: str) -> tuple[int | None, str]:
    """Wait for the end of a job; return its exit status and text."""
    found: list[WorkState] = []

    def has_ended() -> bool:
        found.append(jobs.poll(id))
        return found[-1].state == "ended"

    wait_until(has_ended, "its end", 20)
    return found[-1].exit_code, found[-1].text


def test_the_exit_status_is_what_the_job_has_written(tmp_path: Path, fake: FakeSlurm) -> None:
    jobs = driver(tmp_path)
    id = jobs.submit("k1")
    assert ended(jobs, id) == (3, "")
    assert jobs.follow() == b"hi\n"
    assert "--comment=sflow:k1" in fake.options(1)


def test_a_job_that_slurm_ended_has_no_status_but_a_reason(tmp_path: Path, fake: FakeSlurm) -> None:
    jobs = driver(tmp_path, "sleep", "600")
    id = jobs.submit("k1")
    wait_until(lambda: fake.state(1) == "RUNNING", "the job")
    reasons = {
        "TIMEOUT": "job_timeout",
        "OUT_OF_MEMORY": "oom",
        "NODE_FAIL": "job_node_failed",
        "PREEMPTED": "job_preempted",
        "CANCELLED": "job_cancelled",
        "LAUNCH_FAILED": "",
    }
    for state, reason in reasons.items():
        fake.set_state(1, state)
        assert jobs.poll(id) == ("ended", None, f"Slurm says {state}", reason)


def test_an_end_by_a_signal_waits_for_the_word_of_slurm(
    tmp_path: Path, fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = driver(tmp_path, "sleep", "600")
    id = jobs.submit("k1")
    wait_until(lambda: fake.state(1) == "RUNNING", "the job")
    (tmp_path / "run/t/.sflow_job.k1.exit").write_text("143\n")
    assert jobs.poll(id).state == "running"
    fake.set_state(1, "TIMEOUT")
    assert jobs.poll(id) == ("ended", 143, "Slurm says TIMEOUT", "job_timeout")
    fake.set_state(1, "COMPLETING")
    (fake.folder / "down").touch()
    assert jobs.poll(id).state == "running"
    monkeypatch.setattr(slurm, "WORD_WITHIN_S", 0.0)
    assert jobs.poll(id) == ("ended", 143, "", "")


def test_a_cancelled_job_does_not_wait_for_the_word_of_slurm(tmp_path: Path, fake: FakeSlurm) -> None:
    jobs = driver(tmp_path, "sleep", "600")
    id = jobs.submit("k1")
    wait_until(lambda: fake.state(1) == "RUNNING", "the job")
    jobs.cancel(id)
    (tmp_path / "run/t/.sflow_job.k1.exit").write_text("143\n")
    assert jobs.poll(id) == WorkState("ended", 143)


def test_an_end_waits_for_the_status_that_is_on_its_way(
    tmp_path: Path, fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = driver(tmp_path, "sleep", "600")
    id = jobs.submit("k1")
    wait_until(lambda: fake.state(1) == "RUNNING", "the job")
    fake.set_state(1, "COMPLETED")
    assert jobs.poll(id).state == "running"
    monkeypatch.setattr(slurm, "END_SEEN_AFTER_S", 0.0)
    assert jobs.poll(id) == ("ended", 0, "Slurm says COMPLETED", "")


def test_a_requeued_job_is_still_the_same(tmp_path: Path, fake: FakeSlurm) -> None:
    jobs = driver(tmp_path, "sleep", "600")
    id = jobs.submit("k1")
    wait_until(lambda: fake.state(1) == "RUNNING", "the job")
    for state in ("REQUEUED", "PENDING", "COMPLETING", "CONFIGURING", "SUSPENDED"):
        fake.set_state(1, state)
        assert jobs.poll(id).state in ("pending", "running")


def test_squeue_that_fails_says_nothing_about_the_job(tmp_path: Path, fake: FakeSlurm) -> None:
    jobs = driver(tmp_path, "sleep", "600")
    id = jobs.submit("k1")
    (fake.folder / "down").touch()
    with pytest.raises(JobError, match="squeue does not answer: slurm_load_jobs error"):
        jobs.poll(id)


def test_a_job_that_squeue_has_forgotten_is_asked_of_accounting(
    tmp_path: Path, fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = driver(tmp_path, "sleep", "600")
    id = jobs.submit("k1")
    wait_until(lambda: fake.state(1) == "RUNNING", "the job")
    (fake.folder / "jobs/1/purged").touch()
    assert jobs.poll(id).state == "pending", "it may be a moment's gap"
    (fake.folder / "accounting").write_text("CANCELLED by 0\n")
    assert jobs.poll(id) == ("ended", None, "Slurm says CANCELLED", "job_cancelled")
    (fake.folder / "accounting").unlink()
    monkeypatch.setattr(slurm, "GONE_AFTER_S", 0.0)
    assert jobs.poll(id).text.startswith("neither squeue nor sacct know it")


def test_a_job_is_found_by_its_key(tmp_path: Path, fake: FakeSlurm) -> None:
    (fake.folder / "hold").touch()
    id = driver(tmp_path).submit("k1")
    other = driver(tmp_path)
    assert other.find("k2") is None
    assert other.find("k1") == id


def test_a_second_submission_of_one_key_runs_nothing(tmp_path: Path, fake: FakeSlurm) -> None:
    jobs = driver(tmp_path, "sh", "-c", f"echo x >> {tmp_path}/ran; sleep 1")
    jobs.submit("k1")
    wait_until((tmp_path / "ran").exists, "the first one")
    second = jobs.submit("k1")
    assert ended(jobs, second)[0] == 0, "the status is that of the one that ran"
    assert (tmp_path / "ran").read_text() == "x\n"


def test_many_watchers_ask_squeue_once(tmp_path: Path, fake: FakeSlurm) -> None:
    many = [driver(tmp_path, "sleep", "5", every_s=600.0) for _ in range(5)]
    ids = [jobs.submit(f"k{number}") for number, jobs in enumerate(many)]
    for jobs, id in zip(many, ids, strict=True):
        jobs.poll(id)
    assert (fake.folder / "squeues").read_text() == "x\n"


def test_what_sbatch_refuses_is_quoted(tmp_path: Path, fake: FakeSlurm) -> None:
    (fake.folder / "refuse").write_text("sbatch: error: invalid partition specified: nope\n")
    with pytest.raises(JobError, match="sbatch has refused the job: sbatch: error: invalid partition"):
        driver(tmp_path).submit("k1")


# ---------------------------------------------------------------------- whole runs

WORKFLOW = """version: "0.1"
backends: {jobs: {type: slurm_job, account: a, partition: p, time: 10m, qos: high, mem: 4G, every: 0.2s}}
workflow:
  name: w
  tasks:
    one: {script: ['echo in $SLURM_JOB_ID; echo "{\\"n\\": 4}" > $SFLOW_OUTPUTS_FILE'], outputs: {n: {type: int}}}
    two: {inputs: {n: {from: one.outputs.n}}, backend: {name: jobs, nodes: 2, gpus_per_node: 4}, script: [SCRIPT]}
"""


def write(tmp_path: Path, script: str) -> None:
    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("SCRIPT", f"'{script}'"))


def log(tmp_path: Path, task: str) -> str:
    path = tmp_path / "sflow_output/r" / task / f"{task}.log"
    return path.read_text() if path.exists() else ""


def test_a_run_of_jobs_hands_values_on(tmp_path: Path, fake: FakeSlurm) -> None:
    write(tmp_path, "echo got $INPUT_N")
    done = sflow_ctl("run", "w.yaml", "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in 1" in log(tmp_path, "one")
    assert "got 4" in log(tmp_path, "two")
    wanted = (
        "--nodes=2",
        "--gpus-per-node=4",
        "--account=a",
        "--partition=p",
        "--time=0:10:00",
        "--qos=high",
    )
    assert {*wanted, "--mem=4G", "--job-name=two"} <= {*fake.options(2)}


@pytest.fixture
def start(tmp_path: Path, fake: FakeSlurm) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts runs, which have ended when the test has."""
    runs: list[subprocess.Popen[bytes]] = []
    yield lambda *words: _kept(runs, _started(tmp_path, *words))
    for run in runs:
        if run.poll() is None:
            run.terminate()
            run.wait(60)


def _kept(runs: list["subprocess.Popen[bytes]"], run: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    runs.append(run)
    return run


def _started(tmp_path: Path, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "sflow_ctl", "run", *words],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def test_ctrl_c_cancels_the_jobs(tmp_path: Path, fake: FakeSlurm, start: Start) -> None:
    write(tmp_path, "echo up; sleep 600")
    run = start("w.yaml", "--run-id", "r")
    wait_until(lambda: "up" in log(tmp_path, "two"), "the second job", 60)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    assert fake.state(2) == "CANCELLED"
    assert "job 2 is cancelled" in log(tmp_path, "two")


def test_an_agent_that_is_killed_has_its_successor_watch_the_job(
    tmp_path: Path, fake: FakeSlurm, start: Start
) -> None:
    go = tmp_path / "go"
    write(tmp_path, f"echo up; while [ ! -e {go} ]; do sleep 0.1; done; echo well")
    run = start("w.yaml", "--run-id", "r")
    wait_until(lambda: "up" in log(tmp_path, "two"), "the second job", 60)
    (watcher,) = _watchers(tmp_path)
    agent = int(Path(f"/proc/{watcher}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: "continues with job 2" in log(tmp_path, "two"), "the adoption", 60)
    go.touch()
    assert run.wait(60) == 0
    assert fake.count == 2


@pytest.mark.parametrize(
    ("state", "word", "sentence"),
    [
        ("TIMEOUT", "job_timeout", "job 1 has reached its time limit: Slurm says TIMEOUT"),
        ("OUT_OF_MEMORY", "oom", "job 1 has used more memory than it was given: Slurm says OUT_OF_MEMORY"),
        ("CANCELLED", "job_cancelled", "job 1 was cancelled, and not by this run: Slurm says CANCELLED"),
    ],
)
def test_the_reason_of_slurm_is_that_of_the_task(
    tmp_path: Path, fake: FakeSlurm, start: Start, state: str, word: str, sentence: str
) -> None:
    """`retries` names it; the second job fails for a reason of its own."""
    retries = f"retries: {{count: 2, interval: 0.1s, reasons: [{word}]}}"
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nbackends: {jobs: {type: slurm_job, every: 0.2s}}\nworkflow:\n  name: w\n  tasks:\n'
        f"    t: {{{retries}, script: ['[ $SLURM_JOB_ID != 1 ] || sleep 600; exit 4']}}\n"
    )
    run = start("w.yaml", "--run-id", "r")
    wait_until(lambda: fake.count and fake.state(1) == "RUNNING", "the job", 60)
    fake.set_state(1, state)
    assert run.wait(60) == 1
    assert fake.count == 2
    summary = json.loads((tmp_path / "sflow_output/r/.sflow/summary.json").read_text())
    (task,) = summary["tasks"]
    assert (task["reason_word"], task["exit_code"]) == ("exit", 4), "an earlier attempt's note is not its own"
    journal = (tmp_path / "sflow_output/r/.sflow/events.jsonl").read_text()
    assert f'"{word}"' in journal
    assert sentence in journal


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED"])
def test_what_is_not_the_tasks_doing_uses_no_retry(
    tmp_path: Path, fake: FakeSlurm, start: Start, state: str
) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nbackends: {jobs: {type: slurm_job, every: 0.2s}}\nworkflow:\n  name: w\n  tasks:\n'
        "    t: {script: ['[ $SLURM_JOB_ID != 1 ] || sleep 600']}\n"
    )
    run = start("w.yaml", "--run-id", "r")
    wait_until(lambda: fake.count and fake.state(1) == "RUNNING", "the job", 60)
    fake.set_state(1, state)
    assert run.wait(60) == 0
    assert fake.count == 2


def _watchers(tmp_path: Path) -> list[int]:
    """The processes that watch the jobs of a run below this directory."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            is_watcher = path.name.isdecimal() and b"sflow_agent.jobs" in (path / "cmdline").read_bytes()
            if is_watcher and f"={tmp_path}/sflow_output/r".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found
