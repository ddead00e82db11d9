"""`sflow-ctl doctor` in real jobs: faults are named, and nothing else is."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.slurm.rig import Cluster
from tests.support import lines_with, wait_until

pytestmark = pytest.mark.slurm

DOCTOR = f"{sys.executable} -m sflow_ctl doctor"


def examine(cluster: Cluster, options: str = "", nodes: int = 4, gpus: int = 4) -> tuple[str, str]:
    """Return the job's exit status and what doctor printed."""
    script = f"exec {DOCTOR} --output-dir {cluster.shared}/doctored {options}"
    job = cluster.wait_job(cluster.sbatch(script, nodes=nodes, gres=f"gpu:{gpus}"), within_s=120)
    return job.exit_code.partition(":")[0], cluster.output(job.number)


def ours_left(cluster: Cluster) -> list[str]:
    """Processes of agents on any node."""
    return [
        f"{node} {process.pid} {process.command}"
        for node in cluster.nodes
        for process in cluster.processes_in_node(node)
        if "sflow" in process.command
    ]


@pytest.fixture(autouse=True)
def nothing_is_left(cluster: Cluster) -> Iterator[None]:
    """Neither processes nor files."""
    yield
    wait_until(lambda: not ours_left(cluster), "no agent is left")
    assert not (cluster.shared / "doctored").exists()


def test_a_healthy_job_has_no_findings(cluster: Cluster) -> None:
    status, said = examine(cluster)
    assert status == "0", said
    assert said.splitlines()[-1] == "No problems found.", said
    for topic in ("agents", "mesh", "clocks", "cpus", "gpus", "limits", "directories", "versions", "slurm"):
        assert lines_with(said, "ok", topic), topic
    assert lines_with(said, "mesh", "12 of 12 connections between 4 nodes")
    assert lines_with(said, "gpus", "4 per node")
    assert lines_with(said, "directories", "shared")


def test_two_nodes_that_do_not_reach_each_other_are_named(cluster: Cluster) -> None:
    dropped = cluster.run_in_node("node1", ["iptables", "-A", "INPUT", "-s", "10.77.0.12", "-j", "DROP"])
    assert dropped.returncode == 0, dropped.stderr
    status, said = examine(cluster)
    assert status == "1", said
    (line,) = [line for line in said.splitlines() if line.startswith("FAIL")]
    assert "node1 and node2 do not reach each other (10.77.0.12 on eth0: no answer" in line
    assert lines_with(said, "fix:", "firewall")


def test_an_address_that_is_a_black_hole_is_a_warning_of_its_interface(cluster: Cluster) -> None:
    hole = cluster.add_black_hole_address("node3")
    status, said = examine(cluster)
    assert status == "0", said
    (line,) = [line for line in said.splitlines() if line.startswith("warn")]
    assert f"node3: interface blackhole: 3 of 3 connections to {hole} fail" in line
    assert lines_with(said, "fix:", "NCCL_SOCKET_IFNAME=eth0")


def test_fewer_gpus_than_promised_are_named_and_can_be_read_by_a_program(cluster: Cluster) -> None:
    status, said = examine(cluster, "--gpus-per-node 4 --json", nodes=2, gpus=3)
    assert status == "1", said
    loaded: dict[str, Any] = json.loads(said)
    found = [
        (topic["name"], verdict["severity"], verdict["nodes"], verdict["text"])
        for topic in loaded["topics"]
        for verdict in topic["verdicts"]
        if verdict["severity"] != "ok"
    ]
    names = [node["name"] for node in loaded["facts"]["nodes"]]
    assert found == [("gpus", "fail", names, "has 3 GPUs, --gpus-per-node says 4")]
    assert loaded["exit_status"] == 1


def test_a_node_that_cannot_call_is_named_and_the_others_are_examined(cluster: Cluster) -> None:
    number = cluster.sbatch("sleep 100", nodes=3, gres="gpu:1")
    cluster.wait_job(number, "RUNNING")
    # Only what an agent begins a conversation with: Slurm must go on believing in the node.
    rule = ["OUTPUT", "-d", "10.77.0.1", "-m", "string", "--string", "CURVE", "--algo", "bm", "-j", "DROP"]
    if cluster.run_in_node("node2", ["iptables", "-A", *rule]).returncode != 0:
        pytest.skip("this kernel cannot match packets by what is in them")
    options = (f"--jobid={number}", "--join-within=5", f"--output-dir={cluster.shared}/doctored")
    try:
        done = cluster.run_in_node("head", [*DOCTOR.split(), *options])
    finally:
        cluster.run_in_node("node2", ["iptables", "-D", *rule])
    cluster.scancel(number)
    assert done.returncode == 3, done.stdout + done.stderr
    assert lines_with(
        done.stdout, "FAIL", "agents", "node2: its agent has not connected: no message within 5 s"
    )
    assert lines_with(done.stdout, "ok", "mesh", "2 of 2 connections between 2 nodes")


def test_a_directory_of_the_nodes_own_is_not_shared(cluster: Cluster) -> None:
    status, said = examine(cluster, "--output-dir /dev/shm/doctored", nodes=2)
    assert status == "0", said
    (line,) = [line for line in said.splitlines() if line.startswith("warn")]
    assert "node1: /dev/shm/doctored is not this host's" in line
