"""GPUs that a job was given, as Slurm names them: there is no NVIDIA driver here, so its variables are what counts."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster

pytestmark = pytest.mark.slurm
WORKFLOW = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 1, gpus_per_node: 2}}
operators:
  plain: {type: srun, ntasks: 1}
  step: {type: srun, ntasks: 1, mpi: none, label: false}
workflow:
  name: w
  tasks:
    - {name: first, operator: plain, resources: {gpus: {count: 1}}, script: ['echo ${CUDA_VISIBLE_DEVICES-unset}']}
    - {name: second, operator: step, resources: {gpus: {count: 1}}, script: ['echo ${CUDA_VISIBLE_DEVICES-unset} $SLURM_STEP_ID']}
    - {name: all, operator: plain, script: ['echo ${CUDA_VISIBLE_DEVICES-unset}']}
"""


@pytest.fixture
def run(cluster: Cluster) -> str:
    """The command of a run whose directory is `out/run` below the shared directory."""
    shutil.rmtree(cluster.shared / "out", ignore_errors=True)
    path = cluster.shared / "w.yaml"
    path.write_text(WORKFLOW)
    return f"exec {sys.executable} -m sflow_ctl run {path} --output-dir {cluster.shared}/out --run-id run"


def said(cluster: Cluster, task: str) -> str:
    return Path(cluster.shared / "out" / "run" / task / f"{task}.log").read_text().strip()


def test_a_slice_counts_within_the_gpus_that_other_jobs_have_left(cluster: Cluster, run: str) -> None:
    other = cluster.sbatch("sleep 1000", gres="gpu:2", nodelist="node0")
    cluster.wait_job(other, "RUNNING")
    number = cluster.sbatch(run, gres="gpu:2", nodelist="node0")
    assert cluster.wait_job(number).state == "COMPLETED", cluster.output(number)
    assert said(cluster, "all") == "2,3"
    assert said(cluster, "first") == "2"
    assert said(cluster, "second").split()[0] == "3"
    assert said(cluster, "second").split()[1] != "0"  # the agents' step is 0: this is one of its own


def test_a_job_without_gpus_is_warned_where_nothing_counts_them(cluster: Cluster, run: str) -> None:
    number = cluster.sbatch(run)
    assert cluster.wait_job(number).state == "COMPLETED", cluster.output(number)
    warning = (
        "warning: node node0: GPUs were not counted (no NVIDIA driver, none given by Slurm); gpus_per_node 2"
    )
    assert warning in cluster.output(number)
