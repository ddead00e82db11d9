"""Resuming runs: which options are remembered, who may resume, from where, and which files are never overwritten."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from protocol.errors import UsageError
from sflow_ctl.runtime.record import claim as claims
from sflow_ctl.runtime.record.claim import (
    Claim,
    HolderState,
    await_end_of_earlier_start,
    claim_run,
    encode_claim,
    holder_of,
    own_claim,
    read_claim,
)
from sflow_ctl.runtime.record.reader import RunReader, RunStatus
from sflow_ctl.runtime.run.resume import earlier_run
from sflow_ctl.runtime.slurm.job_state import JobState, job_state
from tests.support import PATIENCE_S, Run, command, sflow_ctl, wait_until

OUT = ("--output-dir", "out")


def workflow(*tasks: str) -> str:
    listed = "\n".join(f"    - {task}" for task in tasks)
    return f'version: "0.1"\nvariables: {{V: "1"}}\nworkflow:\n  name: w\n  tasks:\n{listed}\n'


COUNTS = '{name: a, script: ["echo $V >> $SFLOW_WORKSPACE_DIR/a.count"]}'
NEEDS_GO = '{name: b, depends_on: [a], script: ["test -e $SFLOW_WORKSPACE_DIR/go"]}'
NEVER = '{name: never, script: ["echo no >> $SFLOW_WORKSPACE_DIR/never.count"]}'


def failed_run(tmp_path: Path, *options: str, text: str = workflow(COUNTS, NEEDS_GO)) -> Path:
    """Return a run whose second task has failed, and will not fail the next time."""
    (tmp_path / "w.yaml").write_text(text)
    done = sflow_ctl("run", "w.yaml", *OUT, "--run-id", "r", *options, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    (tmp_path / "go").touch()
    return tmp_path / "out" / "r"


def resume(where: Path, directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return sflow_ctl("run", "--resume", os.path.relpath(directory, where), *options, cwd=where)


def count(tmp_path: Path, name: str) -> list[str]:
    path = tmp_path / f"{name}.count"
    return path.read_text().split() if path.exists() else []


def test_r2_it_makes_no_difference_where_a_resume_is_asked_from(tmp_path: Path) -> None:
    directory = failed_run(tmp_path)
    (tmp_path / "sub").mkdir()
    done = resume(tmp_path / "sub", directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert count(tmp_path, "a") == ["1"]


def test_r2_a_moved_run_directory_is_the_same_run(tmp_path: Path) -> None:
    directory = failed_run(tmp_path)
    moved = tmp_path / "other place" / "r2"
    moved.parent.mkdir()
    shutil.move(directory, moved)
    done = resume(tmp_path, moved)
    assert done.returncode == 0, done.stdout + done.stderr
    assert count(tmp_path, "a") == ["1"]


def test_r4_the_options_of_the_run_are_shown_and_used_again(tmp_path: Path) -> None:
    directory = failed_run(
        tmp_path, "--task", "b", "--set", "V=2", "--nodes", "2", text=workflow(COUNTS, NEEDS_GO, NEVER)
    )
    (tmp_path / "a.count").unlink()
    (directory / "a" / "a.log").write_text("")
    done = resume(tmp_path, directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--set V=2" in done.stderr
    assert "--task b" in done.stderr
    assert "--nodes 2" in done.stderr
    assert count(tmp_path, "never") == []
    plan = json.loads((directory / ".sflow/plan.json").read_bytes())
    assert [task["name"] for task in plan["tasks"]] == ["a", "b"]
    assert len(plan["nodes"]) == 2


def test_n3_the_first_command_line_is_kept_beside_those_of_resumes(tmp_path: Path) -> None:
    directory = failed_run(tmp_path, "--max-running", "1")
    assert resume(tmp_path, directory).returncode == 0
    facts = json.loads((directory / ".sflow/run.json").read_bytes())
    assert facts["argv"][1:4] == ["run", "w.yaml", "--output-dir"]
    assert [argv[1:3] for argv in facts["resumes"]] == [["run", "--resume"]]
    assert facts["options"]["max_running"] == 1


def test_r8_a_log_whose_attempt_the_journal_has_lost_is_not_overwritten(tmp_path: Path) -> None:
    directory = failed_run(tmp_path)
    (directory / "b" / "b.log").write_text("of an attempt that the journal lost\n")
    (directory / "b" / "b.attempt-1.log").write_text("first\n")
    assert resume(tmp_path, directory).returncode == 0
    assert (directory / "b" / "b.attempt-1.log").read_text() == "first\n"
    assert (directory / "b" / "b.attempt-2.log").read_text() == "of an attempt that the journal lost\n"


def elsewhere(tmp_path: Path, job_id: str = "", age_s: float = 0.0) -> tuple[Path, Claim]:
    """Return a claim of another host, renewed so long ago."""
    path = tmp_path / "controller.lock"
    claim = msgspec.structs.replace(own_claim(1), host="other", world="other", job_id=job_id, restarts=0)
    path.write_bytes(encode_claim(claim))
    now = path.stat().st_mtime
    os.utime(path, (now - age_s, now - age_s))
    return path, claim


def fake_squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "squeue").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo RUNNING", JobState.EXISTS),
        ("echo SUSPENDED", JobState.EXISTS),
        ("echo CANCELLED", JobState.GONE),
        ("exit 0", JobState.GONE),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", JobState.GONE),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", JobState.UNKNOWN),
        ('test -z "$SQUEUE_STATES" && echo RUNNING', JobState.EXISTS),
    ],
)
def test_clusters_f15_slurm_is_asked_whether_a_job_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: JobState
) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    fake_squeue(tmp_path, monkeypatch, script)
    assert job_state("7") is expected


def test_clusters_f15_a_controller_of_another_host_is_judged_by_heartbeat_and_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert holder_of(*elsewhere(tmp_path)).state is HolderState.ALIVE
    assert holder_of(*elsewhere(tmp_path, age_s=300)).state is HolderState.DEAD
    fake_squeue(tmp_path, monkeypatch, "echo RUNNING")
    assert holder_of(*elsewhere(tmp_path, "7", 300)).state is HolderState.UNKNOWN
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert holder_of(*elsewhere(tmp_path, "7", 300)).state is HolderState.UNKNOWN
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 0\n")
    assert holder_of(*elsewhere(tmp_path, "7", 300)).state is HolderState.DEAD
    assert holder_of(*elsewhere(tmp_path)).state is HolderState.ALIVE


def test_f38_a_requeued_job_waits_until_its_earlier_controller_is_surely_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may start again on another node within seconds; Slurm has ended it before, unless it cannot reach the node."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert holder_of(*elsewhere(tmp_path, "7", 10)).state is HolderState.ALIVE
    path, claim = elsewhere(tmp_path, "7", 10)
    await_end_of_earlier_start(path)
    assert holder_of(path, claim).state is HolderState.DEAD
    fake_squeue(tmp_path, monkeypatch, "echo RUNNING")  # this job, which says nothing about its earlier start
    assert holder_of(*elsewhere(tmp_path, "7", 300)).state is HolderState.DEAD
    assert holder_of(*elsewhere(tmp_path, "8", 30)).state is HolderState.ALIVE
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert holder_of(*elsewhere(tmp_path, "7", 30)).state is HolderState.ALIVE
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    path, claim = elsewhere(tmp_path, "7")
    await_end_of_earlier_start(path, within_s=0)
    assert holder_of(path, claim).state is HolderState.ALIVE


def test_r11_of_two_that_claim_a_run_at_once_one_succeeds(tmp_path: Path) -> None:
    (tmp_path / ".sflow").mkdir()
    first = claim_run(tmp_path, 1)
    with pytest.raises(UsageError, match="resuming"):
        claim_run(tmp_path, 1)
    first.release()
    second = claim_run(tmp_path, 2)
    assert second.claim.incarnation == 3
    second.release()


def test_r11_a_claim_whose_owner_died_before_it_wrote_does_not_block_the_run(tmp_path: Path) -> None:
    (tmp_path / ".sflow").mkdir()
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    claim = msgspec.structs.replace(own_claim(2), pid=dead.pid)
    (tmp_path / ".sflow/controller.lock.2").write_bytes(encode_claim(claim))
    held = claim_run(tmp_path, 1)
    assert held.claim.incarnation == 3
    held.release()


def running(tmp_path: Path) -> Run:
    run = Run.start(workflow('{name: s, script: ["sleep 600"]}'), tmp_path)
    run.wait_for("s", "running")
    return run


def test_public_n1_a_run_that_another_host_still_runs_is_not_resumed(tmp_path: Path) -> None:
    run = running(tmp_path)
    try:
        lock = run.directory / ".sflow/controller.lock"
        facts = json.loads(lock.read_bytes())
        lock.write_text(json.dumps({**facts, "host": "other", "world": "other"}))
        for place in (run.directory / ".sflow/run.json",):
            place.write_text(json.dumps({**json.loads(place.read_bytes()), "host": "other"}))
        refused = sflow_ctl("run", "--resume", run.directory, cwd=tmp_path)
        assert refused.returncode == 2, refused.stderr
        assert "error[still-running]" in refused.stderr, refused.stderr
        forced = sflow_ctl("run", "--resume", run.directory, "--force", cwd=tmp_path)
        assert forced.returncode == 2, forced.stderr
        assert "error[still-running]" in forced.stderr, forced.stderr
        assert run.states()["s"] == "running"
    finally:
        run.kill()


def test_clusters_f3_a_silent_run_whose_job_exists_is_resumed_only_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = failed_run(tmp_path)
    (directory / ".sflow/summary.json").unlink()
    fake_squeue(tmp_path, monkeypatch, "echo RUNNING")
    lock = directory / ".sflow/controller.lock"
    facts = json.loads(lock.read_bytes())
    facts |= {"host": "other", "world": "other", "job_id": "7", "is_released": False}
    lock.write_text(json.dumps(facts))
    os.utime(lock, (0, 0))
    refused = resume(tmp_path, directory)
    assert refused.returncode == 2, refused.stderr
    assert "error[may-be-running]" in refused.stderr, refused.stderr
    assert "--force" in refused.stderr
    assert count(tmp_path, "a") == ["1"]
    assert resume(tmp_path, directory, "--force").returncode == 0


def test_clusters_f14_a_deleted_run_directory_is_reported_while_the_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".sflow").mkdir()
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.01)
    seen: list[str] = []
    held = claim_run(tmp_path, 0)
    held.on_problem = seen.append
    shutil.rmtree(tmp_path / ".sflow")
    wait_until(lambda: seen, "the problem is reported", 10)
    held.release()
    assert "was deleted" in seen[0]
    assert len(seen) == 1


def test_a_killed_run_is_resumed_at_once_on_its_own_host(tmp_path: Path) -> None:
    run = running(tmp_path)
    run.kill_both()
    run.process.wait()
    (tmp_path / "r.yaml").write_text(workflow('{name: s, script: ["true"]}'))
    done = sflow_ctl("run", "r.yaml", "--resume", run.directory, cwd=tmp_path)
    run.kill()
    assert done.returncode == 0, done.stdout + done.stderr


def test_n1_a_claim_counts_though_an_earlier_summary_is_there(
    tmp_path: Path,
) -> None:
    """The other resume waits for nodes: it has changed nothing yet but the claim."""
    directory = failed_run(tmp_path)
    last = read_claim(directory / ".sflow/controller.lock")
    assert last is not None
    claim = msgspec.structs.replace(own_claim(last.incarnation + 1), host="other", world="other")
    for name in ("controller.lock", f"controller.lock.{claim.incarnation}"):
        (directory / ".sflow" / name).write_bytes(encode_claim(claim))
    refused = resume(tmp_path, directory)
    assert refused.returncode == 2, refused.stderr
    assert "error[still-running]" in refused.stderr, refused.stderr
    assert f"controller pid {claim.pid} on other" in refused.stderr
    assert count(tmp_path, "a") == ["1"]


def test_n1_a_claim_that_appears_after_the_last_one_was_judged_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = failed_run(tmp_path)
    judge = RunReader.controller_status

    def overtaken(reader: RunReader) -> RunStatus:
        status = judge(reader)
        last = read_claim(directory / ".sflow/controller.lock")
        assert last is not None
        claim = msgspec.structs.replace(own_claim(last.incarnation + 1), host="other", world="other")
        for name in (f"controller.lock.{claim.incarnation}", "controller.lock"):
            (directory / ".sflow" / name).write_bytes(encode_claim(claim))
        return status

    monkeypatch.setattr(RunReader, "controller_status", overtaken)
    with pytest.raises(UsageError, match="resuming"):
        earlier_run(directory, tmp_path)


def on_another_host(name: str, boot_id: Path, *arguments: str | Path) -> list[str]:
    """Return a command that runs with a host name, boot and processes of its own."""
    script = 'hostname "$1" && mount --bind "$2" /proc/sys/kernel/random/boot_id && shift 2 && exec "$@"'
    return ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script,
            "sh", name, str(boot_id), *command(*arguments)]  # fmt: skip


def at_once(tmp_path: Path, *arguments: str | Path, hosts: int = 4) -> list[tuple[int, str]]:
    """Run one command on several hosts at the same moment; return their statuses and outputs."""
    processes = []
    for number in range(hosts):
        boot_id = tmp_path / f"boot-{number}"
        boot_id.write_text(f"boot-of-host-{number}\n")
        processes.append(
            subprocess.Popen(
                on_another_host(f"host{number}", boot_id, *arguments),
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


SLOW = '{name: c, depends_on: [b], script: ["echo $(hostname) >> $SFLOW_WORKSPACE_DIR/c.count; sleep 3"]}'
needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="host names of its own need root"
)


@needs_namespaces
def test_n1_of_resumes_on_several_hosts_at_once_one_runs(tmp_path: Path) -> None:
    directory = failed_run(tmp_path, text=workflow(COUNTS, NEEDS_GO, SLOW))
    ends = at_once(tmp_path, "run", "--resume", directory)
    assert sorted(status for status, _ in ends) == [0, 2, 2, 2], ends
    for status, output in ends:
        assert status == 0 or "error[still-running]" in output, output
    assert len(count(tmp_path, "c")) == 1
    assert count(tmp_path, "a") == ["1"]
    lines = [json.loads(one) for one in (directory / ".sflow/events.jsonl").read_bytes().split(b"\n") if one]
    assert [one["seq"] for one in lines] == sorted({one["seq"] for one in lines})


@needs_namespaces
def test_n1_of_new_runs_with_one_id_on_several_hosts_at_once_one_runs(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(workflow('{name: c, script: ["hostname >> c.count; sleep 1"]}'))
    ends = at_once(tmp_path, "run", "w.yaml", *OUT, "--run-id", "r")
    assert [status for status, _ in ends].count(0) == 1, ends
    for status, output in ends:
        assert status == 0 or "error[run-directory-" in output, output
    assert len(count(tmp_path, "c")) == 1
