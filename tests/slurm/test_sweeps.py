"""A sweep of real training on several nodes of a job."""

import csv
import json
import sys
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh
from tests.support import ROOT

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

POOL = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 4, gpus_per_node: 0}}
workflow:
  name: train-sweep
  tasks:
    - {name: train, resources: {nodes: {count: 1}}}
    - {name: evaluate, resources: {nodes: {count: 1}}}
    - {name: best, resources: {nodes: {count: 1}}}
"""


def test_a_sweep_uses_all_nodes_and_a_killed_cell_resumes_from_its_checkpoint(
    cluster: Cluster,
) -> None:
    pytest.importorskip("numpy")
    (cluster.shared / "pool.yaml").write_text(POOL)
    example = ROOT / "examples" / "train_sweep.yaml"
    out = cluster.shared / "out"
    words = f"run {example} {cluster.shared}/pool.yaml --set PYTHON={sys.executable} --output-dir {out} --run-id run"
    number = cluster.sbatch(f"exec {SFLOW_CTL} {words}", nodes=4)
    job = cluster.wait_job(number, within_s=180)
    assert job.state == "COMPLETED", cluster.output(number)
    summary = json.loads((out / "run/.sflow/summary.json").read_text())
    tasks = {one["name"]: one for one in summary["tasks"]}
    assert len(tasks) == 25
    assert {one["node"] for one in tasks.values()} == {f"node{index}" for index in range(4)}
    attempts = {name: one["attempts"] for name, one in tasks.items() if one["attempts"] != 1}
    killed = "train_wide_DECAY-1e-3_LR-0.3"
    assert attempts == {killed: 2}
    with Path(out / "run/.sflow/cells.csv").open() as file:
        rows = {row["cell"]: row for row in csv.DictReader(file)}
    assert len(rows) == 12
    resumed = {cell: int(row["resumed_at"]) for cell, row in rows.items()}
    assert resumed.pop(killed.removeprefix("train_")) == 31, "of 60 epochs, half of which were saved"
    assert set(resumed.values()) == {0}
    assert all(0.4 < float(row["accuracy"]) <= 1 for row in rows.values()), rows
    (chosen,) = tasks[killed]["checkpoints"]
    assert chosen["path"].endswith("epoch_31.npz")
    assert "best cell: " in (out / "run/best/best.log").read_text()
