"""The real torchrun over several nodes, with gloo: in an environment that has torch, which ours has not."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, summary

TORCH = os.environ.get("SFLOW_TORCH_VENV") or (sys.prefix if importlib.util.find_spec("torch") else "")
"""The virtual environment that has torch."""
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        not TORCH, reason="torch is not installed, and SFLOW_TORCH_VENV names no environment that has it"
    ),
]
__all__ = ["fresh"]

PROGRAM = Path(__file__).with_name("gloo_program.py")
WORKFLOW = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 2, gpus_per_node: 0}}
environments:
  torch: {venv: "VENV", before: ["export GLOO_SOCKET_IFNAME=$SFLOW_NODE_IFNAME OMP_NUM_THREADS=1"]}
workflow:
  name: w
  tasks:
    - name: t
      environment: torch
      launcher: {type: torchrun, nproc: 2}
      requires: distributed
      timeout: 3m
      script: [torchrun PROGRAM]
"""


def test_processes_of_two_nodes_meet(cluster: Cluster) -> None:
    path = cluster.shared / "torchrun.yaml"
    path.write_text(WORKFLOW.replace("VENV", TORCH).replace("PROGRAM", str(PROGRAM)))
    job = cluster.sbatch(
        f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run", nodes=2
    )
    ended = cluster.wait_job(job, within_s=240)
    log = (cluster.shared / "out/run/t/t.log").read_text()
    assert ended.state == "COMPLETED", log
    found = re.findall(r"rank (\d) of 4 on (\w+): (\d+)", log)
    assert sorted(rank for rank, _, _ in found) == ["0", "1", "2", "3"], log
    assert {total for _, _, total in found} == {"10"}
    assert len({node for _, node, _ in found}) == 2
    assert summary(cluster)["outcome"] == "completed"
