"""Slurm jobs whose time limit changes while a run is in them: P9, public 17, public 6."""

import math
import select
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.messages.facts import Terminated
from sflow_ctl.core.events import JobEnding, MessageReceived
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.slurm import job_clock
from sflow_ctl.runtime.slurm.allocation import Allocation, ask_job_end, current_allocation
from sflow_ctl.runtime.slurm.job_clock import JobClock, clock_of
from sflow_ctl.runtime.slurm.job_end import JobEndNotice
from sflow_ctl.runtime.slurm.job_reason import why_it_ends
from tests.faults.fake_slurm import FakeSlurm
from tests.faults.test_slurm_launch import finish, log, start
from tests.support import PATIENCE_S, wait_until

OFTEN = "slurm.job_clock.ASK_EVERY_S=0.2"


def job_with_limit(directory: Path, left: str) -> FakeSlurm:
    """A job whose remaining time stands in a file."""
    slurm = FakeSlurm(directory, nodes=("node0",))
    slurm.command(
        "squeue",
        f"echo x >> {directory}/asked\n"
        f"case \"$*\" in *%i*) echo '4711|RUNNING|node0';; *) cat {directory}/left;; esac",
    )
    set_limit(directory, left)
    return slurm


def set_limit(directory: Path, left: str) -> None:
    """As `scontrol update` does."""
    (directory / "new").write_text(left + "\n")
    (directory / "new").rename(directory / "left")


@pytest.mark.parametrize("options", [(), ("--jobid", "4711")], ids=["inside", "jobid"])
def test_public_17_an_extended_job_completes(tmp_path: Path, options: tuple[str, ...]) -> None:
    slurm = job_with_limit(tmp_path, "0:12")
    wait = f"echo begun > {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.1; done; echo done"
    process = start(
        slurm,
        f"    - {{name: t, script: ['{wait}']}}\n",
        "--headroom",
        "6",
        *options,
        env={"SLURM_JOB_END_TIME": str(time.time_ns() // 10**9 + 12)},
        constants=OFTEN,
    )
    wait_until(lambda: (tmp_path / "begun").exists() or process.poll() is not None, "the task runs")
    set_limit(tmp_path, "1:00:00")
    old_stop_at = time.monotonic() + 6.5  # or earlier
    wait_until(lambda: time.monotonic() > old_stop_at, "the old end is over")
    (tmp_path / "go").touch()
    status, output = finish(process)
    assert status == 0, output
    assert log(slurm) == "done\n"
    assert "the Slurm job's time limit was changed: 1 h 0 min left" in output


def test_public_17_a_shortened_job_ends_in_order_within_its_new_time(tmp_path: Path) -> None:
    slurm = job_with_limit(tmp_path, "10:00")
    handler = 'trap "sleep 0.5; echo saved; exit 0" TERM; echo begun > $SFLOW_WORKSPACE_DIR/begun; sleep 60 & wait; wait'
    process = start(
        slurm,
        f"    - {{name: t, stop: {{grace: 3}}, script: ['{handler}']}}\n"
        "    - {name: last, finally: true, script: ['echo $SFLOW_RUN_OUTCOME']}\n",
        constants=OFTEN,
    )
    wait_until(lambda: (tmp_path / "begun").exists() or process.poll() is not None, "the task runs")
    set_limit(tmp_path, "0:20")
    status, output = finish(process)
    assert status == 124, output
    assert "saved" in log(slurm)
    assert "timeout" in log(slurm, "last")
    assert "the Slurm job's time limit was changed: 0 min 20 s left" in output


def test_p9_slurm_is_asked_seldom(tmp_path: Path) -> None:
    """A short run asks for the end once, at its start."""
    slurm = job_with_limit(tmp_path, "10:00")
    status, output = finish(start(slurm, "    - {name: t, script: ['sleep 1']}\n"))
    assert status == 0, output
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobClock]:
    """A clock that never asks by itself."""
    monkeypatch.setattr(job_clock, "ASK_EVERY_S", 3600.0)
    return JobClock


def news(clock: JobClock) -> list[float | None]:
    """What it says next."""
    assert select.select([clock.fileno], [], [], PATIENCE_S)[0]
    return [one.gone_at for one in clock.news()]


def test_p9_an_answer_that_is_asked_for_comes_even_if_it_is_the_old_one(
    clock: Callable[..., JobClock],
) -> None:
    slurm = clock("7", 100.0, ask=lambda _: 101.0)
    slurm.start()
    slurm.ask_now()
    assert news(slurm) == [101.0]
    slurm.close()


def test_p9_a_clock_reports_changes_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_clock, "ASK_EVERY_S", 0.01)
    answers = [100.0, None, 104.0, 700.0, 703.0, math.inf, math.inf, 50.0]
    slurm = JobClock("7", 100.0, ask=lambda _: answers.pop(0) if len(answers) > 1 else answers[0])
    slurm.start()
    said: list[float | None] = []
    while len(said) < 3:
        said += news(slurm)
    assert said == [700.0, None, 50.0]
    slurm.close()


def test_clusters_f13_slurms_time_to_end_a_job_is_asked_before_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """When Slurm ends a job it may be too busy to answer; without any answer the log does not claim a number."""
    monkeypatch.setattr(job_clock, "SETTLED_S", 0.01)
    asked: list[float | None] = []
    answers: list[float | None] = [8.0]

    def ask_kill_wait(within_s: float | None) -> float | None:
        asked.append(within_s)
        return answers.pop() if answers else None

    slurm = JobClock("7", None, ask=lambda _: math.inf, ask_kill_wait=ask_kill_wait)
    slurm.start()
    wait_until(lambda: not answers, "it is asked")
    slurm.close()
    silent = JobClock("7", None, ask=lambda _: math.inf, ask_kill_wait=ask_kill_wait)
    said = []
    for number, clock in enumerate((slurm, silent)):
        log = RunLog(tmp_path / f"{number}.log", "info")
        notice = JobEndNotice(log, clock)
        event = MessageReceived(node=0, message=Terminated())
        said.append([one.within_s for one in notice.with_end([event, event]) if isinstance(one, JobEnding)])
        log.close()
    assert said == [[8.0], [30.0]]
    assert asked == [None, 1.0]
    assert "Slurm ends the job within 8 s" in (tmp_path / "0.log").read_text()
    assert "probably within 30 s" in (tmp_path / "1.log").read_text()


@pytest.mark.parametrize(
    ("answer", "left_s"),
    [
        ("10:00", 600.0),
        ("1-00:00:00", 86400.0),
        ("UNLIMITED", math.inf),
        ("INVALID", 0.0),
        ("10:00\n5:00", 300.0),
        ("NOT_SET", None),
        ("", None),
    ],
)
def test_p9_what_squeue_says_of_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left_s: float | None
) -> None:
    slurm = job_with_limit(tmp_path, answer)
    monkeypatch.setenv("PATH", slurm.environment()["PATH"])
    before = time.monotonic()
    ends_at = ask_job_end("4711")
    if left_s in (None, math.inf):
        assert ends_at == left_s
    else:
        assert ends_at is not None
        assert before + left_s <= ends_at <= time.monotonic() + left_s


@pytest.mark.parametrize("is_asked", [True, False])
def test_public_06_an_end_in_the_past_is_another_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_asked: bool
) -> None:
    slurm = job_with_limit(tmp_path, "10:00")
    if not is_asked:
        slurm.without("squeue")
    monkeypatch.setenv("PATH", slurm.environment()["PATH"])
    job = current_allocation({**slurm.environment(), "SLURM_JOB_END_TIME": "1000"})
    assert job is not None
    if is_asked:
        assert job.ends_at is not None
        assert job.ends_at > time.monotonic() + 500
        assert not job.warnings
    else:
        assert job.ends_at is None
        assert "squeue does not show" in job.warnings[0]


def test_public_17_the_environments_end_is_older_than_slurms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of when the job began; without an answer it is better than nothing."""
    slurm = job_with_limit(tmp_path, "30:00")
    monkeypatch.setenv("PATH", slurm.environment()["PATH"])
    environ = {**slurm.environment(), "SLURM_JOB_END_TIME": str(time.time_ns() // 10**9 + 100)}
    job = current_allocation(environ)
    assert job is not None
    assert job.ends_at is not None
    assert job.ends_at > time.monotonic() + 1700
    slurm.without("squeue")
    job = current_allocation(environ)
    assert job is not None
    assert job.ends_at is not None
    assert job.ends_at < time.monotonic() + 101


@pytest.mark.parametrize(
    ("job", "states", "word", "text"),
    [
        ("JobState=COMPLETING Reason=None Restarts=0", "", "cancelled", "the job was cancelled or preempted"),
        (
            "JobState=COMPLETING Reason=NodeDown Restarts=0",
            "n1|mixed n2|down*",
            "node_lost",
            "node n2 of the job failed",
        ),
        (
            "JobState=NODE_FAIL Reason=NodeDown Restarts=0",
            "n1|down n2|down*",
            "node_lost",
            "nodes n1, n2 of the job failed",
        ),
        ("JobState=NODE_FAIL Reason=NodeDown Restarts=0", "", "node_lost", "a node of the job failed"),
        (
            "JobState=COMPLETING Reason=None Restarts=2",
            "n1|mixed n2|mixed*",
            "node_lost",
            "node n2 of the job failed; the job was requeued, and will start again",
        ),
        (
            "JobState=COMPLETING Reason=None Restarts=2",
            "n1|mixed n2|mixed",
            "preempted",
            "the job was requeued, and will start again",
        ),
        (
            "JobState=COMPLETING Reason=None Restarts=1",
            "n2|down",
            "cancelled",
            "the job was cancelled or preempted",
        ),
        ("JobState=RUNNING Reason=None Restarts=1", "n2|down", None, ""),
    ],
)
def test_clusters_t4_a_job_that_ends_for_a_node_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, states: str, word: str | None, text: str
) -> None:
    slurm = FakeSlurm(tmp_path, nodes=("n1", "n2"))
    slurm.command("scontrol", f"echo 'JobId=7 {job} RunTime=00:00:05 TimeLimit=00:10:00'")
    slurm.command("sinfo", f"test -z $SINFO_FORMAT && printf '%s\\n' {states}".replace("|", "\\|"))
    monkeypatch.setenv("PATH", slurm.environment()["PATH"])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1" if "Restarts=0" not in job else "0")
    monkeypatch.setenv("SINFO_FORMAT", "x")
    reason = why_it_ends("7", ["n1", "n2"])
    assert (reason and reason.word) == word
    assert reason is None or reason.text == f"Slurm: {text}"


def test_of_several_jobs_the_first_end_counts() -> None:
    """Slurm is asked for all of them at once."""
    asked: list[str] = []

    def ask(names: str) -> float | None:
        asked.append(names)
        return 50.0

    jobs = [
        Allocation(job_id=number, components=(("n",),), gpus_on_node=None, ends_at=end)
        for number, end in (("7", None), ("8", 100.0), ("9", 300.0))
    ]
    slurm = clock_of(jobs, ask=ask)
    slurm.start()
    slurm.ask_now()
    assert news(slurm) == [50.0]
    slurm.close()
    assert asked == ["7,8,9"]
