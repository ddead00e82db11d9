"""Monitors in a Slurm job: agents in job steps measure their nodes, and real steps have windows."""

import csv
import json

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

WORKFLOW = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 2, gpus_per_node: 4}}
operators: {step: {type: srun, ntasks_per_node: 1, extra_args: [--label]}}
workflow:
  name: w
  monitor: {interval: 200, scopes: {cpu: {}, memory: {}, gpu: {}}}
  tasks:
    - name: plain
      resources: {nodes: {indices: [1]}}
      script: ["sleep 1"]
      monitor: {interval: 200, scopes: {network: {}}}
    - name: over
      operator: step
      script: ["sleep 0.5; echo BEGIN; sleep 1; echo END; sleep 0.5"]
      monitor: {interval: 200, scopes: {disk: {}}, window: {start: "re:^BEGIN$", end: "re:^END$"}}
"""


def test_nodes_are_measured_and_a_step_over_two_nodes_has_its_window(cluster: Cluster) -> None:
    path = cluster.shared / "monitors.yaml"
    path.write_text(WORKFLOW)
    command = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run"
    job = cluster.wait_job(cluster.sbatch(command, nodes=2, gres="gpu:4"), within_s=90)
    assert job.state == "COMPLETED", cluster.output(job.number)
    directory = cluster.shared / "out/run/sflow_monitor"
    with (directory / "windowed/over/timeline.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["node_id"] for row in rows} == {"0", "1"}
    assert {row["hostname"] for row in rows} == set(cluster.nodes[:2])
    assert {"cpu", "memory", "disk"} <= {row["resource_type"] for row in rows}
    window = json.loads((directory / "windowed/over/window.json").read_bytes())
    assert window["start"]["line"] == "BEGIN"
    assert 0.9 <= window["duration_seconds"] < 2
    charts = {path.name for path in (directory / "lifecycle/workflow").glob("*.svg")}
    assert charts == {f"timeline.{name}.svg" for name in cluster.nodes[:2]}
    with (directory / "lifecycle/plain/timeline.csv").open(newline="") as file:
        assert {row["node_id"] for row in csv.DictReader(file)} == {"1"}
