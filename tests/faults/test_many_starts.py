"""Commands that a job step or an MPI launcher starts several times at once: public 16."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.fake_slurm import FakeSlurm
from tests.support import command, sflow_ctl

WORKFLOW = "    - {name: t, script: ['echo x >> $SFLOW_WORKSPACE_DIR/count']}\n"
OTHER = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    "words",
    [
        ("run", "w.yaml"),
        ("run", "w.yaml", "--resume", "r"),
        ("run", "w.yaml", "--dry-run"),
        ("batch", "w.yaml", "-o", "j.sh", "--submit"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_public_16_another_process_of_a_step_does_nothing_and_says_so(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    slurm = FakeSlurm(tmp_path)
    slurm.command("sbatch", f"echo 1 | tee {tmp_path}/submitted")
    (tmp_path / "w.yaml").write_text(slurm.workflow(WORKFLOW))
    before = sorted(tmp_path.iterdir())
    done = sflow_ctl(*words, cwd=tmp_path, env={**slurm.environment(), **OTHER})
    assert done.returncode == 0
    assert done.stdout == ""
    assert "process 1 of this job step does nothing" in done.stderr
    assert "env -u SLURM_STEP_NUM_TASKS sflow-ctl" in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert not (slurm.directory / "calls").exists()


def test_public_16_the_first_process_runs_on_all_nodes(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    (tmp_path / "w.yaml").write_text(slurm.workflow(WORKFLOW))
    env = {**slurm.environment(), **OTHER, "SLURM_PROCID": "0"}
    done = sflow_ctl("run", "w.yaml", "--interface", "lo", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "count").read_text() == "x\nx\n"  # once on each node


def test_public_16_ranks_of_an_mpi_program_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: t, script: ["touch ran"]}]}\n'
    )
    for rank in ("0", "1"):
        done = sflow_ctl("run", "w.yaml", cwd=tmp_path, env={"PMI_RANK": rank, "PMI_SIZE": "2"})
        assert done.returncode == 2
        assert "error[several-ranks]: an MPI launcher has started this program 2 times" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["w.yaml"]


@pytest.mark.skipif(shutil.which("mpiexec.mpich") is None, reason="MPICH is not installed")
def test_public_16_a_real_mpi_launcher_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        'version: "0.1"\nworkflow: {name: w, tasks: [{name: t, script: ["touch ran"]}]}\n'
    )
    argv = ["mpiexec.mpich", "-n", "2", *command("run", "w.yaml")]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "error[several-ranks]" in done.stdout + done.stderr
    assert not (tmp_path / "sflow_output").exists()
