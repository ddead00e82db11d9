"""A controller is killed in its job: its supervisor in the batch step starts another one, and agents on all nodes stay."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sflow_ctl.report.summary import read_summary
from sflow_ctl.slurm.nodelist import expand_nodelist
from tests.slurm.processes import Process
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, kill_run, ours_left
from tests.slurm.settings import HEAD
from tests.slurm.test_runs import submit, workflow
from tests.support import await_takeover, wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]
GRACE_S = 5
ENDS_WITHIN_S = 25.0
"""After the grace: for agents to stop tasks, on a busy machine."""


def test_a_job_does_not_notice_that_its_controller_was_killed(cluster: Cluster) -> None:
    go = cluster.shared / "go"
    go.unlink(missing_ok=True)
    script = f"echo $SLURMD_NODENAME $$; until [ -e {go} ]; do sleep 0.1; done; echo done"
    tasks = f"    - {{name: t, resources: {{nodes: {{count: 2}}}}, script: ['{script}']}}\n"
    number = submit(cluster, tasks, nodes=2)
    run = cluster.shared / "out" / "run"
    logs = [run / "t" / f"t.rank-{rank}.log" for rank in (0, 1)]
    wait_until(lambda: all(log.exists() and log.stat().st_size for log in logs), "both ranks run", 60)
    before = [log.read_text() for log in logs]
    host = cluster.job(number).batch_host
    both = [one for one in cluster.processes_in_node(host) if "-m sflow_ctl run" in one.command]
    assert len(both) == 2, [one.command for one in both]
    max(both, key=lambda one: (one.started, one.pid)).kill()
    await_takeover(run, within_s=30)
    go.touch()
    job = cluster.wait_job(number, within_s=60)
    go.unlink()
    printed = cluster.output(number)
    assert job.state == "COMPLETED", printed
    assert "incarnation 2 took over 1 task in" in printed
    assert [log.read_text() for log in logs] == [f"{one}done\n" for one in before]
    whole = read_summary((run / ".sflow/summary.json").read_bytes())
    assert [(one.signal, one.tasks, one.missing) for one in whole.takeovers] == [("SIGKILL", 1, ())]
    assert json.loads((run / ".sflow/run.json").read_text())["incarnation"] == 2
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def agents_on(cluster: Cluster, node: str) -> list[Process]:
    """Return the guardian and the agent of a node."""
    found = [
        one
        for one in cluster.processes_in_node(node)
        if "-m sflow_agent" in one.command and one.name != "srun"
    ]
    return sorted(found, key=lambda one: (one.started, one.pid))


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("killed", ["agent", "guardian", "both"])
def test_an_agent_that_is_killed_in_a_job_is_started_again_on_its_node(
    cluster: Cluster, killed: str, nodes: int
) -> None:
    """By its guardian, in the same job step; the place of a guardian is taken by a step of its own. Tasks follow their policy."""
    go = cluster.shared / "go"
    go.unlink(missing_ok=True)
    script = f"echo $SLURMD_NODENAME $SFLOW_ATTEMPT; until [ -e {go} ]; do sleep 0.1; done; echo done"
    where = "replicas: {count: 2}, resources: {nodes: {count: 1}}"
    tasks = f"    - {{name: t, retries: 1, {where}, script: ['{script}']}}\n"
    number = submit(cluster, tasks.replace("count: 2", f"count: {nodes}"), nodes=nodes)
    run = cluster.shared / "out" / "run"
    logs = {name: run / name / f"{name}.log" for name in ("t_0", "t_1")[:nodes]}
    wait_until(lambda: all(log.exists() and log.stat().st_size for log in logs.values()), "both run", 60)
    host = cluster.job(number).batch_host
    where_run = {name: log.read_text().split()[0] for name, log in logs.items()}
    name, node = next((name, node) for name, node in where_run.items() if node != host or nodes == 1)
    guardian, agent = agents_on(cluster, node)
    for one in {"agent": [agent], "guardian": [guardian], "both": [guardian, agent]}[killed]:
        one.kill()
    wait_until(lambda: log_says(logs[name], f"{node} 2"), "the task runs again on its node", 60)
    go.touch()
    job = cluster.wait_job(number, within_s=60)
    go.unlink()
    assert job.state == "COMPLETED", cluster.output(number)
    whole = read_summary((run / ".sflow/summary.json").read_bytes())
    how = "was killed by SIGKILL" if killed == "agent" else "was killed with its guardian"
    assert [(one.node, one.ended) for one in whole.agent_restarts] == [(node, how)]
    assert {task.name: task.attempts for task in whole.tasks} == dict.fromkeys(logs, 1) | {name: 2}
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def said(process: "subprocess.Popen[str]") -> str:
    """All that it prints until its end, which is soon."""
    try:
        return process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return f"it does not end: {process.communicate()[0]}"


def log_says(log: Path, text: str) -> bool:
    return log.exists() and text in log.read_text()


def test_a_resume_on_another_node_of_the_job_adopts_the_agents(cluster: Cluster) -> None:
    """Controller and supervisor are dead, and a step on their node says so; only one resume at a time has the run."""
    go = cluster.shared / "go"
    go.unlink(missing_ok=True)
    script = f"echo $SLURMD_NODENAME $$; until [ -e {go} ]; do sleep 0.1; done; echo done"
    path = workflow(
        cluster, f"    - {{name: t, resources: {{nodes: {{count: 2}}}}, script: ['{script}']}}\n", 2
    )
    number = cluster.sbatch("sleep 600", nodes=2, gres="gpu:4")
    job = cluster.wait_job(number, "RUNNING")
    first, second = expand_nodelist(job.node_list)
    words = [*SFLOW_CTL.split(), "run", str(path), "--output-dir", "out", "--run-id", "run"]
    begun = cluster.start_in_node(first, [*words, "--jobid", str(number)])
    run = cluster.shared / "out" / "run"
    logs = [run / "t" / f"t.rank-{rank}.log" for rank in (0, 1)]
    wait_until(lambda: all(log.exists() and log.stat().st_size for log in logs), "both ranks run", 60)
    before = [log.read_text() for log in logs]
    again = [*SFLOW_CTL.split(), "run", "--resume", "out/run", "--jobid", str(number)]
    refused = cluster.start_in_node(second, again)
    assert "is still running" in said(refused)
    both = [one for one in cluster.processes_in_node(first) if "-m sflow_ctl run" in one.command]
    for number_of_signal in (signal.SIGSTOP, signal.SIGKILL):  # so that the supervisor starts no other one
        for one in both:
            os.kill(one.pid, number_of_signal)

    def has_ended() -> bool:
        begun.send_signal(signal.SIGCONT)  # nsenter stops with its child, and must see that this is dead
        return begun.poll() is not None

    wait_until(has_ended, "both are dead", 60)
    resumed = cluster.start_in_node(second, again)
    journal = run / ".sflow/events.jsonl"

    def is_taken_over() -> bool:
        assert resumed.poll() is None, resumed.communicate()[0]
        return b'"kind":"takeover"' in journal.read_bytes()

    wait_until(is_taken_over, "the run is taken over", 60)
    refused = cluster.start_in_node(first, again)
    assert "is still running" in said(refused), (run / "sflow.log").read_text()
    go.touch()
    printed = said(resumed)
    go.unlink()
    assert resumed.returncode == 0, printed
    assert "incarnation 2 took over 1 task in" in printed
    assert [log.read_text() for log in logs] == [f"{one}done\n" for one in before]
    cluster.scancel(number)
    cluster.wait_job(number, within_s=60)
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def test_a_run_with_its_own_allocation_is_taken_over_and_gives_it_back(cluster: Cluster) -> None:
    """Its supervisor holds the allocation: killed with the controller, tasks and job are gone within the orphan grace."""
    beat = cluster.shared / "beat"
    script = f"echo $SLURMD_NODENAME $$; while :; do touch {beat}.$SFLOW_RANK; sleep 0.1; done"
    path = workflow(
        cluster, f"    - {{name: t, resources: {{nodes: {{count: 2}}}}, script: ['{script}']}}\n", 2
    )
    out = cluster.shared / "out"
    words = f"{SFLOW_CTL} run {path} --output-dir {out} --run-id run --orphan-grace {GRACE_S}"
    begun = cluster.start_in_node(HEAD, words.split())
    run = out / "run"
    logs = [run / "t" / f"t.rank-{rank}.log" for rank in (0, 1)]
    wait_until(lambda: all(log.exists() and log.stat().st_size for log in logs), "both ranks run", 60)
    before = [log.read_text() for log in logs]
    both = [one for one in cluster.processes_in_node(HEAD) if "-m sflow_ctl run" in one.command]
    assert len(both) == 2, [one.command for one in both]
    max(both, key=lambda one: (one.started, one.pid)).kill()
    await_takeover(run, within_s=30)
    assert [log.read_text() for log in logs] == before
    number = int(cluster.slurm("squeue", "--noheader", "--format=%i", "--states=RUNNING"))
    kill_run(cluster, HEAD)
    killed_at = time.monotonic()
    printed = said(begun)
    beats = [beat.with_suffix(f".{rank}") for rank in (0, 1)]
    wait_until(lambda: not any(map(is_touched, beats)), "the tasks have ended", GRACE_S + 60)
    assert time.monotonic() - killed_at < GRACE_S + ENDS_WITHIN_S, printed
    job = cluster.wait_job(number, within_s=60)
    assert job.state in ("CANCELLED", "COMPLETED"), printed
    wait_until(lambda: not ours_left(cluster), "nothing is left", 60)


def is_touched(beat: Path) -> bool:
    """Whether a task touches its file, within a second."""
    before, until = beat.stat().st_mtime_ns, time.monotonic() + 1.0
    wait_until(lambda: time.monotonic() > until, "a second", 30)
    return beat.stat().st_mtime_ns != before
