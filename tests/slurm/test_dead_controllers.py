"""What other hosts say of a run whose controller was killed, and how long its tasks live: F10, F15."""

import os
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, kill_run, ours_left
from tests.slurm.settings import HEAD
from tests.slurm.test_runs import workflow
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

TASK = "    - {name: t, operator: one, script: ['echo begun; exec sleep 7777']}\n"


def ask(cluster: Cluster, verb: str) -> tuple[int, str]:
    """Ask about the run on the login node."""
    done = cluster.run_in_node(HEAD, [*SFLOW_CTL.split(), verb, str(cluster.shared / "out" / "run")])
    return done.returncode, done.stdout + done.stderr


def silent_for(lock: Path, seconds: float) -> None:
    """Make the dead controller's last heartbeat that old."""
    renewed = lock.stat().st_mtime - seconds
    os.utime(lock, (renewed, renewed))


def test_clusters_f15_a_controller_that_died_elsewhere_is_judged_by_its_job(cluster: Cluster) -> None:
    """`status` asks Slurm, and `attach` ends once nothing more can be known; the job outlives the run."""
    path = workflow(cluster, TASK, nodes=2)
    run = f"{SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run --orphan-grace 3"
    number = cluster.sbatch(f"{run}\nexec sleep 600", nodes=2)
    wait_until(lambda: any("7777" in one for one in ours_left(cluster)), "the task runs", 30)
    follower = cluster.start_in_node(
        HEAD, [*SFLOW_CTL.split(), "attach", str(cluster.shared / "out" / "run")]
    )
    host = cluster.job(number).batch_host
    kill_run(cluster, host)
    wait_until(lambda: all(one.split()[0] == HEAD for one in ours_left(cluster)), "the agents end all", 30)
    assert ask(cluster, "status")[1].startswith("run is running: controller pid ")
    silent_for(cluster.shared / "out" / "run" / ".sflow" / "controller.lock", 61)
    exists = f"and its Slurm job {number} still exists"
    status, said = ask(cluster, "status")
    assert (status, exists in said) == (0, True), said
    printed, _ = follower.communicate(timeout=30)
    assert follower.returncode == 3, printed
    assert exists in printed.splitlines()[-1]
    status, said = ask(cluster, "attach")
    assert (status, exists in said) == (3, True), said
    cluster.scancel(number)
    cluster.wait_job(number)
    for verb, expected in (("status", 0), ("attach", 3)):
        status, said = ask(cluster, verb)
        assert status == expected, said
        assert (
            f"run died: controller pid {pid_in(said)} on {host} is gone with its Slurm job {number}" in said
        )
        assert "next: sflow-ctl run --resume" in said


def pid_in(text: str) -> str:
    return text.partition("controller pid ")[2].split()[0]
