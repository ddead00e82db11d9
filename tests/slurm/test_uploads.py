"""Uploads in a Slurm job: by the agents in job steps, from a shared directory, and from nodes without one."""

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

WORKFLOW = """version: "0.1"
backends: {{pool: {{type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 2, gpus_per_node: 4}}}}
operators: {{step: {{type: srun, ntasks_per_node: 1}}}}
storage: {{keep: {{type: directory, path: {keep}}}}}
workflow:
  name: w
  upload_all: {{target: keep}}
  tasks:
    - name: there
      resources: {{nodes: {{indices: [1]}}}}
      script: ["mkdir -p $SFLOW_TASK_OUTPUT_DIR; hostname > $SFLOW_TASK_OUTPUT_DIR/node.txt"]
      uploads: [{{target: keep, from: node.txt, on_error: fail}}, {{target: keep, from: there.log}}]
    - name: over
      operator: step
      script: ["mkdir -p $SFLOW_TASK_OUTPUT_DIR; echo $SLURM_PROCID > $SFLOW_TASK_OUTPUT_DIR/$SLURMD_NODENAME.rank"]
      uploads: [{{target: keep, from: "*.rank", to: "ranks/", on_error: fail}}]
"""


@pytest.mark.parametrize("spool", ["", "--log-spool /tmp/sflow-test-uploads"])
def test_agents_upload_what_tasks_and_steps_have_written(cluster: Cluster, spool: str) -> None:
    name = "spooled" if spool else "shared"
    keep = cluster.shared / f"keep-{name}"
    path = cluster.shared / f"uploads-{name}.yaml"
    path.write_text(WORKFLOW.format(keep=keep))
    command = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id {name} {spool}"
    job = cluster.wait_job(cluster.sbatch(command, nodes=2, gres="gpu:4"), within_s=90)
    assert job.state == "COMPLETED", cluster.output(job.number)
    assert (keep / "there.log").exists()
    assert (keep / "node.txt").exists()
    assert {one.name for one in (keep / "ranks").iterdir()} == {f"{node}.rank" for node in cluster.nodes[:2]}
    assert (keep / f"{name}.zip").exists()
