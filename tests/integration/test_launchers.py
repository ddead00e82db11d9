"""Launchers: one process per node gets in its environment the options of torchrun or mpirun."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.support import sflow_ctl

STAND_IN = Path(__file__).parents[1] / "stand_in_torchrun.py"
HEAD = """version: "0.1"
backends: {pool: {type: local, nodes: 2, gpus_per_node: 2}}
workflow:
  name: launchers
  tasks:
"""
PROGRAM = """
import os, sys
names = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "SFLOW_NODE_RANK", "CUDA_VISIBLE_DEVICES")
sys.stdout.write(" ".join(os.environ.get(name, "-") for name in names) + "\\n")
"""


def run(cwd: Path, tasks: str) -> tuple[int, str, Path]:
    """Return the exit status, the output, and the run directory."""
    (cwd / "w.yaml").write_text(HEAD + tasks)
    (cwd / "train.py").write_text(PROGRAM)
    ended = sflow_ctl("run", "w.yaml", "--run-id", "r", "--simulate-gpus", cwd=cwd)
    return ended.returncode, ended.stdout + ended.stderr, cwd / "sflow_output" / "r"


def lines(directory: Path, task: str) -> list[str]:
    """Return the output of all processes of a task, sorted."""
    return sorted(
        line
        for path in (directory / task).rglob("*.log")
        for line in path.read_text().splitlines()
        if path.name != f"{task}.log" or len(list((directory / task).rglob("*.log"))) == 1
    )


def test_torchrun_meets_over_two_nodes_with_a_process_per_gpu(tmp_path: Path) -> None:
    status, said, directory = run(
        tmp_path,
        f"""
    - name: train
      launcher: torchrun
      resources: {{nodes: {{count: 2}}, gpus: {{count: 4}}}}
      script: ["{sys.executable} {STAND_IN} train.py"]
""",
    )
    assert status == 0, said
    assert lines(directory, "train") == ["0 0 0 4 0 0,1", "1 1 0 4 0 0,1", "2 0 1 4 1 0,1", "3 1 1 4 1 0,1"]


def test_jobs_at_the_same_time_do_not_meet_each_other_and_variables_of_the_task_win(tmp_path: Path) -> None:
    """All torchruns of a machine would take port 29500."""
    status, said, directory = run(
        tmp_path,
        f"""
    - name: train
      launcher: {{type: torchrun, nproc: 3}}
      replicas: {{count: 6}}
      resources: {{nodes: {{count: 1}}}}
      script: ["{sys.executable} {STAND_IN} train.py"]
    - name: own
      launcher: {{type: torchrun, nproc: 3}}
      resources: {{nodes: {{count: 1}}}}
      variables: {{PET_NPROC_PER_NODE: 2}}
      script: ["{sys.executable} {STAND_IN} train.py"]
""",
    )
    assert status == 0, said
    for number in range(6):
        assert [line.split()[3] for line in lines(directory, f"train_{number}")] == ["3"] * 3
    assert [line.split()[3] for line in lines(directory, "own")] == ["2"] * 2


def test_a_node_that_fails_ends_the_others_at_once(tmp_path: Path) -> None:
    status, said, _ = run(
        tmp_path,
        """
    - name: train
      launcher: torchrun
      resources: {nodes: {count: 2}}
      script: ["[ $PET_NODE_RANK = 0 ] || exit 3", "exec sleep 3600"]
""",
    )
    assert status == 1
    assert "exit status 3" in said


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not installed")
def test_mpirun_stays_on_its_node_although_it_seems_to_be_in_a_slurm_job(tmp_path: Path) -> None:
    """`srun` here is a file that tells on whoever starts it: what an MPI does that believes in the job."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(f"#!/bin/sh\necho called > {tmp_path}/called\nexit 1\n")
    srun.chmod(0o755)
    job = "SLURM_JOB_ID=1 SLURM_JOBID=1 SLURM_NODELIST=far-away SLURM_JOB_NODELIST=far-away SLURM_TASKS_PER_NODE=8 SLURM_NNODES=1"
    status, said, directory = run(
        tmp_path,
        f"""
    - name: solve
      launcher: {{type: mpirun, nproc: 3}}
      resources: {{nodes: {{count: 1}}}}
      script: ["export PATH={srun.parent}:$PATH {job}", "mpirun -n $SFLOW_NPROC echo solved"]
""",
    )
    assert status == 0, said
    assert lines(directory, "solve") == ["solved"] * 3
    assert not (tmp_path / "called").exists()
