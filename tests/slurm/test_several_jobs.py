"""Slurm backends with jobs of their own, in a real Slurm: from a login node, and from the job that `batch` makes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.settings import HEAD
from tests.support import wait_until

pytestmark = pytest.mark.slurm

WORKFLOW = """
version: "0.1"
variables: {LONG: 0}
backends:
  big: {type: slurm, account: lab, partition: main, nodes: 2, gpus_per_node: 2, time: 5m, extra_args: ["--gpus-per-node=2"]}
  small: {type: slurm, account: lab, partition: requeued, nodes: 1, gpus_per_node: 0, time: 5m}
operators: {step: {type: srun, ntasks_per_node: 1, mpi: none}}
workflow:
  name: two
  tasks:
    - name: server
      backend: big
      script: ['echo "$SLURMD_NODENAME $SLURM_JOB_ID $SFLOW_BACKEND_JOB_ID"', "echo it is up", "sleep 600"]
      probes: {readiness: {log_watch: {regex_pattern: it is up}}}
    - name: client
      backend: small
      depends_on: [server]
      script: ['echo "$SLURMD_NODENAME $SLURM_JOB_ID $SFLOW_BACKEND_JOB_ID"', 'sleep $LONG']
    - {name: step, backend: small, operator: step, depends_on: [server], script: ['echo "step $SLURM_JOB_ID"']}
"""


def sflow(cluster: Cluster, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run sflow-ctl on the head, in the shared directory."""
    (cluster.shared / "wf.yaml").write_text(WORKFLOW)
    places = ("--workspace-dir", cluster.shared, "--output-dir", cluster.shared / "out")
    command = [sys.executable, "-m", "sflow_ctl", *words, cluster.shared / "wf.yaml", *places]
    return cluster.run_in_node(HEAD, list(map(str, command)), within_s=120)


def jobs_of(run: Path) -> tuple[set[str], str]:
    """Return the jobs that the server's processes and the client saw, all in the same way."""
    server = re.findall(
        r"^\d: node\d (\d+) (\d+)$", (run / "server" / "server.log").read_text(), re.MULTILINE
    )
    client = (run / "client" / "client.log").read_text().split()
    assert len(server) == 2
    assert client[1] == client[2]
    assert (run / "step" / "step.log").read_text().split() == ["step", client[1]]
    return {job for pair in server for job in pair}, client[1]


def no_jobs(cluster: Cluster) -> bool:
    """Return whether no job is left."""
    return not cluster.slurm("squeue", "--noheader", "--format=%i").split()


def test_from_a_login_node_each_backend_gets_a_job(cluster: Cluster) -> None:
    done = sflow(cluster, "run", "--run-id", "r", "-e", "--comment=both")
    assert done.returncode == 0, done.stdout + done.stderr
    (big,), small = jobs_of(cluster.shared / "out" / "r")
    assert big != small
    wait_until(lambda: no_jobs(cluster), "both jobs are given back")


def test_in_the_job_of_the_largest_the_other_gets_its_own(cluster: Cluster) -> None:
    made = sflow(cluster, "batch", "-o", cluster.shared / "job.sh", "--submit")
    match = re.search(r"Submitted job (\d+)", made.stdout)
    assert match is not None, made.stdout + made.stderr
    job = cluster.wait_job(int(match[1]))
    log = cluster.shared / "out" / f"{job.number}-sflow-submit.out"
    assert job.state == "COMPLETED", log.read_text()
    (run,) = (cluster.shared / "out").glob(f"{job.number}-two-*")
    (big,), small = jobs_of(run)
    assert big == str(job.number)
    assert small != big
    wait_until(lambda: no_jobs(cluster), "the other job is given back")


def test_a_run_ends_with_the_reason_of_the_job_that_was_cancelled(cluster: Cluster) -> None:
    (cluster.shared / "wf.yaml").write_text(WORKFLOW)
    words = [
        sys.executable,
        "-m",
        "sflow_ctl",
        "run",
        "--run-id",
        "cancelled",
        cluster.shared / "wf.yaml",
        "-s",
        "LONG=600",
    ]
    words += ["--workspace-dir", cluster.shared, "--output-dir", cluster.shared / "out"]
    running = cluster.start_in_node(HEAD, list(map(str, words)))
    log = cluster.shared / "out/cancelled/client/client.log"
    wait_until(lambda: log.exists() and log.read_text(), "the client runs")
    (small,) = cluster.slurm("squeue", "--noheader", "--format=%i", "--partition=requeued").split()
    cluster.scancel(int(small))
    output, _ = running.communicate(timeout=120)
    assert running.returncode != 0, output
    assert "Slurm: the job was cancelled" in output
    wait_until(lambda: no_jobs(cluster), "both jobs are gone")
