"""Faults in the middle of a run in a job: step daemons, nodes, agents and the run directory go (T3, T4, T5, T7)."""

import os
import shutil
import signal
import time

import pytest

from sflow_ctl.slurm.nodelist import expand_nodelist
from tests.slurm.processes import Process
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.slurm.test_runs import workflow
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

TASKS = """    - name: server
      replicas: {count: 2}
      resources: {nodes: {count: 1}}
      operator: one
      stop: {grace: 3}
      probes: {readiness: {log_watch: {match_pattern: up}}}
      script: ['trap "echo drained; exit 0" TERM; echo up; n=0; while :; do sleep 0.1; echo $((n += 1)) >> BEATS; done']
    - {name: load, operator: one, depends_on: [server], script: ['echo begun; until [ -e GO ]; do sleep 0.1; done']}
    - {name: collect, finally: true, operator: one, script: ['echo "$SFLOW_RUN_OUTCOME: $SFLOW_RUN_CAUSE"']}
"""


def begin(cluster: Cluster, options: str = "", **slurm: str | int | bool) -> int:
    """Return the job once all runs; it ends when `go` is there."""
    go = cluster.shared / "go"
    for old in (go, *cluster.shared.glob("beats.*")):
        old.unlink(missing_ok=True)
    path = workflow(
        cluster,
        TASKS.replace("GO", str(go)).replace("BEATS", f"{cluster.shared}/beats.$SFLOW_REPLICA_INDEX"),
        nodes=2,
    )
    run = f"{SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run {options}"
    number = cluster.sbatch(f"exec {run}", nodes=2, **slurm)
    wait_until(lambda: "begun" in log(cluster, "load"), f"all runs\n{cluster.output(number)}", 30)
    return number


def log(cluster: Cluster, task: str) -> str:
    path = cluster.shared / "out" / "run" / task / f"{task}.log"
    return path.read_text() if path.exists() else ""


def other_node(cluster: Cluster, number: int) -> str:
    """Return the node of the job that its script does not run on."""
    job = cluster.job(number)
    return next(node for node in expand_nodelist(job.node_list) if node != job.batch_host)


def agent_on(cluster: Cluster, node: str) -> Process:
    """Return the agent itself, which its guardian has started."""
    found = [one for one in cluster.processes_in_node(node) if "sflow_agent" in one.command]
    return max(found, key=lambda one: (one.started, one.pid))


def drained(cluster: Cluster) -> list[str]:
    return [name for name in ("server_0", "server_1") if "drained" in log(cluster, name)]


def test_clusters_t3_a_killed_daemon_of_the_agents_step_leaves_the_run_unharmed(cluster: Cluster) -> None:
    number = begin(cluster)
    other = other_node(cluster, number)
    daemons = [one for one in cluster.processes_in_node(other) if one.name == "slurmstepd"]
    assert daemons
    for one in daemons:
        one.kill()
    (cluster.shared / "go").touch()
    ended = cluster.shared / "out" / "run" / ".sflow/summary.json"
    begun = time.monotonic()
    wait_until(ended.exists, "the run ends", 30)
    job = cluster.wait_job(number, within_s=60)
    took_s = time.monotonic() - begun
    assert took_s < 10, f"{took_s:.1f} s: srun waits for the dead daemon, and the run for srun"
    assert job.state == "COMPLETED", cluster.output(number)
    assert drained(cluster) == ["server_0", "server_1"]
    assert log(cluster, "collect") == "completed: \n"
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def test_clusters_t4_a_node_that_ends_the_job_is_the_cause_by_name(cluster: Cluster) -> None:
    """Without --no-kill Slurm ends a job that loses a node, before the run has given the node up."""
    number = begin(cluster, "--lost-after 60", no_requeue=True)  # 24.11 takes half a minute
    other = other_node(cluster, number)
    cluster.cut(other)
    ended = cluster.shared / "out" / "run" / ".sflow/summary.json"
    wait_until(ended.exists, "the run ends", 60)
    cause = summary(cluster)["cause"]
    assert isinstance(cause, dict)
    assert cause["text"] == f"stopped by SIGTERM (Slurm: node {other} of the job failed)", cluster.output(
        number
    )
    assert cause["reason"]["word"] == "node_lost"
    assert len(drained(cluster)) == 1, cluster.output(number)


def test_clusters_t5_an_agent_that_stands_still_is_awaited_and_then_lost(cluster: Cluster) -> None:
    number = begin(cluster, "--lost-after 5 --orphan-grace 5")
    other = other_node(cluster, number)
    agent = agent_on(cluster, other)
    os.kill(agent.pid, signal.SIGSTOP)
    until = time.monotonic() + 3
    wait_until(lambda: time.monotonic() > until, "time passes", 10)
    os.kill(agent.pid, signal.SIGCONT)
    until = time.monotonic() + 2.5
    wait_until(lambda: time.monotonic() > until, "time passes", 10)
    assert "lost" not in cluster.output(number)
    os.kill(agent.pid, signal.SIGSTOP)
    job = cluster.wait_job(number, within_s=60)
    assert job.exit_code.startswith("1:"), cluster.output(number)
    assert f"node {other} was lost: silent for " in str(summary(cluster)["cause"])
    wait_until(lambda: not ours_left(cluster), "its guardian, or Slurm, has ended what it had", 30)
    assert len(drained(cluster)) >= 1
    for beats in cluster.shared.glob("beats.*"):
        count = [int(line) for line in beats.read_text().split()]
        assert count == list(range(1, len(count) + 1)), "no server was started twice or lost a line"


def test_clusters_t7_a_run_whose_directory_is_deleted_ends_at_once_and_says_so(cluster: Cluster) -> None:
    number = begin(cluster)
    shutil.rmtree(cluster.shared / "out" / "run")
    (cluster.shared / "go").touch()
    began = time.monotonic()
    job = cluster.wait_job(number, within_s=60)
    assert time.monotonic() - began < 15
    printed = cluster.output(number)
    assert job.exit_code.startswith("3:"), printed
    assert "the run failed: the run directory was deleted, with its record and logs" in printed
    assert "hint:  start the workflow anew" in printed
    assert not ours_left(cluster)
