"""Nodes that do not share the run directory: what tasks hand over is copied, on the node and in the controller's directory."""

import json

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

WORKFLOW = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 3, gpus_per_node: 4}}
operators: {one: {type: srun, ntasks: 1}}
workflow:
  name: w
  tasks:
    make:
      operator: one
      resources: {nodes: {indices: [1]}}
      script: |
        cd "$SFLOW_TASK_OUTPUT_DIR"; mkdir parts
        head -c 3000000 /dev/urandom > parts/step_1.pt; head -c 30 /dev/urandom > parts/step_2.pt
      outputs:
        newest: {path: "parts/*.pt"}
        all: {kind: files, path: "parts/*"}
    there:
      operator: one
      resources: {nodes: {indices: [2]}}
      inputs: {all: {from: make.outputs.all}, mine: {from: make.outputs.newest, stage: copy}}
      script: ['cd "$SFLOW_TASK_OUTPUT_DIR/../make"; sha256sum parts/* "$INPUT_MINE" | cut -c1-64']
    here:
      operator: one
      resources: {nodes: {indices: [0]}}
      inputs: {all: {from: make.outputs.all}}
      script: ['cd "$SFLOW_TASK_OUTPUT_DIR/../make"; sha256sum parts/* | cut -c1-64']
"""


def test_outputs_of_one_node_are_inputs_on_others_and_collected(cluster: Cluster) -> None:
    path = cluster.shared / "w.yaml"
    path.write_text(WORKFLOW)
    own = "/dev/shm/own"
    script = (
        f"rm -rf {own}\n{SFLOW_CTL} run {path} --output-dir {own} --run-id run; status=$?\n"
        f"mkdir -p {cluster.shared}/out; cp -r {own}/run {cluster.shared}/out/\n"
        f"{SFLOW_CTL} collect {own}/run --to {cluster.shared}/out/kept; exit $status"
    )
    number = cluster.sbatch(script, nodes=3, gres="gpu:4")
    job = cluster.wait_job(number, within_s=90)
    said = cluster.output(number)
    assert job.state == "COMPLETED", said
    run = cluster.shared / "out" / "run"
    recorded = json.loads((run / "make/outputs.json").read_text())
    assert recorded
    manifest = json.loads((cluster.shared / "out/kept/manifest.json").read_text())
    (newest, every) = manifest["outputs"]
    digests = [one["sha256"] for one in every["files"]]
    assert newest["files"][0]["sha256"] == digests[1]
    assert (run / "here/here.log").read_text().split() == digests
    assert (run / "there/there.log").read_text().split() == [*digests, digests[1]]


SAVED = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 3, gpus_per_node: 4}}
operators: {one: {type: srun, ntasks: 1}}
workflow:
  name: w
  tasks:
    train:
      operator: one
      resources: {nodes: {indices: [NODE]}}
      checkpoint: {dir: ckpt}
      script: |
        hostname; cat "${RESUME_FROM_CHECKPOINT:-/dev/null}"
        if [ -n "$RESUME_FROM_CHECKPOINT" ]; then exit 0; fi
        mkdir -p "$SFLOW_CHECKPOINT_DIR"
        head -c 3000000 /dev/zero | tr '\\0' x > "$SFLOW_CHECKPOINT_DIR/step_5.pt"; exit 1
"""


def test_an_attempt_on_another_node_continues_from_the_checkpoint(cluster: Cluster) -> None:
    first, second, own = cluster.shared / "first.yaml", cluster.shared / "second.yaml", "/dev/shm/own"
    first.write_text(SAVED.replace("NODE", "1"))
    second.write_text(SAVED.replace("NODE", "2"))
    script = (
        f"rm -rf {own}\n{SFLOW_CTL} run {first} --output-dir {own} --run-id run\n"
        f"{SFLOW_CTL} run {second} --resume {own}/run; status=$?\n"
        f"mkdir -p {cluster.shared}/out; cp -r {own}/run {cluster.shared}/out/; exit $status"
    )
    number = cluster.sbatch(script, nodes=3, gres="gpu:4")
    job = cluster.wait_job(number, within_s=120)
    assert job.state == "COMPLETED", cluster.output(number)
    directory = cluster.shared / "out" / "run" / "train"
    host, _, content = (directory / "train.log").read_text().partition("\n")
    assert (host, content) == ("node2", "x" * 3_000_000)
    assert (directory / "ckpt/step_5.pt").stat().st_size == 3_000_000
