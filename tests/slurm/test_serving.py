"""Serving and training inside real Slurm jobs: addresses, interfaces and meeting points that no file names."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.support import EXAMPLES

pytestmark = pytest.mark.slurm

SFLOW_CTL = f"{sys.executable} -m sflow_ctl"
STAND_IN = Path(__file__).parents[1] / "stand_in_torchrun.py"
POOL = '{pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 4, gpus_per_node: 4}}'
PROGRAM = """
import json, os, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "PET_MASTER_ADDR", "SFLOW_NODE_IP", "SFLOW_NODE_IFNAME", "SFLOW_NODE_IFNAMES",
         "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES")
sys.stdout.write(json.dumps({name: os.environ.get(name) for name in names}) + "\\n")
"""


@pytest.fixture(autouse=True)
def fresh(cluster: Cluster) -> None:
    """No run of a test before."""
    shutil.rmtree(cluster.shared / "out", ignore_errors=True)


def said_by(cluster: Cluster, task: str) -> list[dict[str, str | None]]:
    """The lines of all ranks of a task."""
    directory = cluster.shared / "out" / "run" / task
    logs = [path for path in directory.rglob("*.log") if path.name != f"{task}.log"]
    return [json.loads(line) for path in logs for line in path.read_text().splitlines()]


def test_torchrun_meets_over_four_nodes_by_the_interface_that_was_chosen(cluster: Cluster) -> None:
    (cluster.shared / "train.py").write_text(PROGRAM)
    (cluster.shared / "w.yaml").write_text(f"""version: "0.1"
backends: {POOL}
workflow:
  name: training
  tasks:
    - name: train
      launcher: torchrun
      resources: {{gpus: {{count: 16}}}}
      variables: {{GLOO_SOCKET_IFNAME: mine}}
      script: ["exec {sys.executable} {STAND_IN} {cluster.shared}/train.py"]
""")
    shown = cluster.run_in_node(cluster.nodes[0], ["ip", "-o", "-4", "address", "show", "scope", "global"])
    name = shown.stdout.split()[1]
    run = f"{SFLOW_CTL} run {cluster.shared}/w.yaml --output-dir {cluster.shared}/out --run-id run --interface {name}"
    job = cluster.wait_job(cluster.sbatch(f"exec {run}", nodes=4, gres="gpu:4"), within_s=120)
    assert job.state == "COMPLETED", cluster.output(job.number)
    said = said_by(cluster, "train")
    assert sorted(int(one["RANK"] or -1) for one in said) == list(range(16))
    assert {one["WORLD_SIZE"] for one in said} == {"16"}
    assert len({one["SFLOW_NODE_IP"] for one in said}) == len({one["SLURMD_NODENAME"] for one in said}) == 4
    assert {one["PET_MASTER_ADDR"] for one in said} == {
        one["SFLOW_NODE_IP"] for one in said if one["RANK"] == "0"
    }
    for one in said:
        assert one["SFLOW_NODE_IFNAME"] == one["NCCL_SOCKET_IFNAME"] == name
        assert (one["SFLOW_NODE_IFNAMES"] or "").split(",")[0] == name
        assert one["GLOO_SOCKET_IFNAME"] == "mine"
        assert one["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


@pytest.mark.skipif(
    any(shutil.which(one, path="/usr/bin:/usr/sbin") is None for one in ("etcd", "nats-server", "nginx")),
    reason="etcd, nats-server or nginx is not installed",
)
def test_the_serving_example_on_four_nodes(cluster: Cluster) -> None:
    (cluster.shared / "pool.yaml").write_text(
        f'version: "0.1"\nbackends: {POOL}\nworkflow: {{name: serving}}\n'
    )
    run = (
        f"{SFLOW_CTL} run {EXAMPLES}/serving.yaml {cluster.shared}/pool.yaml --set REQUESTS=160 "
        f"--output-dir {cluster.shared}/out --run-id run"
    )
    job = cluster.wait_job(cluster.sbatch(f"exec {run}", nodes=4, gres="gpu:4"), within_s=180)
    assert job.state == "COMPLETED", cluster.output(job.number)
    out = cluster.shared / "out" / "run"
    rows = list(csv.DictReader((out / ".sflow/results.csv").read_text().splitlines()))
    assert [(row["CONCURRENCY"], row["requests"]) for row in rows] == [
        ("1", "160"),
        ("4", "160"),
        ("16", "160"),
    ]
    words = [line.split() for line in (out / "collect" / "collect.log").read_text().splitlines()]
    hosts = {word[2].rpartition(":")[0] for word in words if word[0] == "registered"}
    assert len(hosts) == 4, "a worker on each node, each reached by its own address"
    assert sum(int(word[2]) for word in words if word[0] == "served") == 480
