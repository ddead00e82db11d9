"""Distributed programs over several nodes: both shapes that launchers have, by either name of the variables."""

import sys
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

PROGRAM = f"{sys.executable} {Path(__file__).with_name('rendezvous.py')}"
BY_SFLOW = (
    "export MASTER_ADDR=$SFLOW_MASTER_ADDR MASTER_PORT=$SFLOW_MASTER_PORT RANK=$SFLOW_RANK "
    "WORLD_SIZE=$SFLOW_WORLD_SIZE LOCAL_RANK=$SFLOW_LOCAL_RANK"
)
BY_SLURM = (
    "export MASTER_ADDR=$(scontrol show hostnames $SLURM_STEP_NODELIST | head -n 1) MASTER_PORT=$SFLOW_MASTER_PORT "
    "RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID"
)
HEAD = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: NODES, gpus_per_node: 4}}
operators:
  per_gpu: {type: srun, ntasks_per_node: 4}
  per_node: {type: srun}
workflow:
  name: w
  tasks:
"""


def submit(cluster: Cluster, operator: str, script: str, nodes: int, more: str = "") -> int:
    """A job of one task on all of its nodes and GPUs."""
    path = cluster.shared / "distributed.yaml"
    task = f"    - name: t\n      operator: {operator}\n      resources: {{gpus: {{count: {4 * nodes}}}}}\n"
    path.write_text(
        f"{HEAD.replace('NODES', str(nodes))}{task}      script:\n      - |\n        {script}\n{more}"
    )
    command = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run"
    return cluster.sbatch(command, nodes=nodes, gres="gpu:4")


def lines(cluster: Cluster) -> list[str]:
    """Return the output of the ranks, without their labels."""
    log = (cluster.shared / "out" / "run" / "t" / "t.log").read_text()
    return sorted(line.partition(": ")[2] for line in log.splitlines())


def results(world: int, nodes: int) -> list[str]:
    """Return the expected output."""
    places = " ".join(f"node{n}:{gpu}" for n in range(nodes) for gpu in range(4))
    total = world * (world + 1) // 2
    return sorted(f"rank {rank} of {world}: sum {total} over {places}" for rank in range(world))


@pytest.mark.parametrize("variables", [BY_SFLOW, BY_SLURM], ids=["sflow", "slurm"])
def test_one_rank_per_gpu(variables: str, cluster: Cluster) -> None:
    number = submit(cluster, "per_gpu", f"{variables}; exec {PROGRAM}", nodes=3)
    job = cluster.wait_job(number, within_s=90)
    assert job.state == "COMPLETED", cluster.output(number)
    assert lines(cluster) == results(12, nodes=3)


@pytest.mark.parametrize("variables", ["SFLOW", "SLURM"])
def test_one_rank_per_node_that_starts_its_workers(variables: str, cluster: Cluster) -> None:
    """As torchrun does."""
    place = {
        "SFLOW": "--node-rank $SFLOW_NODE_RANK --nnodes $SFLOW_WORLD_SIZE",
        "SLURM": "--node-rank $SLURM_NODEID --nnodes $SLURM_NNODES",
    }
    script = f"{BY_SFLOW}; exec {PROGRAM} --nproc-per-node 4 {place[variables]}"
    number = submit(cluster, "per_node", script, nodes=4)
    job = cluster.wait_job(number, within_s=90)
    assert job.state == "COMPLETED", cluster.output(number)
    assert lines(cluster) == results(16, nodes=4)


def test_a_rank_that_fails_ends_the_others_and_is_the_cause_with_its_node(cluster: Cluster) -> None:
    """The others would wait for it as long as they have patience."""
    operator = "{name: per_gpu, kill_on_bad_exit: true}"
    number = submit(cluster, operator, f"{BY_SFLOW}; exec {PROGRAM} --fail-rank 6", nodes=2)
    job = cluster.wait_job(number, within_s=50)
    assert (job.state, job.exit_code) == ("FAILED", "1:0"), cluster.output(number)
    said = cluster.output(number)
    assert "task t failed: rank 6: exit status 3" in said
    assert "  node:  node1\n" in said
    cause = summary(cluster)["cause"]
    assert isinstance(cause, dict)
    assert cause["node"] == 1
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)


def test_workers_of_a_failed_node_end_with_their_task_on_all_nodes(cluster: Cluster) -> None:
    operator = "{name: per_node, kill_on_bad_exit: true}"
    script = (
        f"{BY_SFLOW}; sleep 7777 & [ $SFLOW_RANK = 1 ] && exit 5; "
        f"exec {PROGRAM} --nproc-per-node 4 --node-rank $SFLOW_RANK --nnodes 2"
    )
    number = submit(cluster, operator, script, nodes=2)
    cluster.wait_job(number, "FAILED", within_s=50)
    assert "task t failed: rank 1: exit status 5" in cluster.output(number)
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)
