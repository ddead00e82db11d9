"""Jobs whose time limit changes, jobs and controllers that are stopped for a while, and runs that a step starts several times."""

import time
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.slurm.settings import HEAD
from tests.slurm.test_runs import submit, workflow
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

LAST = "    - {name: last, finally: true, operator: one, script: ['echo $SFLOW_RUN_OUTCOME']}\n"


@pytest.fixture
def go(cluster: Cluster) -> Path:
    path = cluster.shared / "go"
    path.unlink(missing_ok=True)
    return path


def waiting(go: Path) -> str:
    """A task that ends when it is told to."""
    return (
        "    - {name: t, operator: one, stop: {grace: 3}, script: "
        f"['trap \"echo saved; exit 1\" TERM; echo begun; until [ -e {go} ]; do sleep 0.1; done; echo done']}}\n"
    )


def log(cluster: Cluster, task: str) -> str:
    path = cluster.shared / "out" / "run" / task / f"{task}.log"
    return path.read_text() if path.exists() else ""


def begun(cluster: Cluster) -> None:
    wait_until(lambda: "begun" in log(cluster, "t"), "the task runs", 30)


def pause(seconds: float) -> None:
    """Let so much time pass that something else would have ended."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, "time passes", seconds + 5)


def test_public_17_an_extended_job_goes_on_and_a_shortened_one_ends_in_order(
    cluster: Cluster, go: Path
) -> None:
    """The end in the environment, where there is one, is the old one."""
    number = submit(cluster, waiting(go) + LAST, nodes=2, run="--headroom 50", time="1")
    begun(cluster)
    cluster.scontrol("update", f"jobid={number}", "timelimit=10")
    pause(11)  # the old end, of 60 s less the headroom, is over
    assert "saved" not in log(cluster, "t"), cluster.output(number)
    go.touch()
    job = cluster.wait_job(number, within_s=60)
    assert job.state == "COMPLETED", cluster.output(number)
    assert "the Slurm job's time limit was changed: 9 min" in cluster.output(number)

    go.unlink()
    fresh_again(cluster)
    often = cluster.shared / "often.py"
    often.write_text(
        "from sflow_ctl.runtime.slurm import job_clock\njob_clock.ASK_EVERY_S = 1.0\n"
        "from sflow_ctl.cli.program import main\nmain()\n"
    )
    path = workflow(cluster, waiting(go) + LAST, nodes=2)
    program = SFLOW_CTL.replace("-m sflow_ctl", str(often))
    number = cluster.sbatch(
        f"exec {program} run {path} --output-dir {cluster.shared}/out --run-id run", nodes=2
    )
    begun(cluster)
    cluster.scontrol("update", f"jobid={number}", "timelimit=1")
    job = cluster.wait_job(number, within_s=40)
    assert job.exit_code.startswith("124:"), cluster.output(number)
    assert "saved" in log(cluster, "t")
    assert log(cluster, "last") == "timeout\n"
    assert summary(cluster)["outcome"] == "timeout"


def test_p5_a_suspended_job_and_a_stopped_controller_lose_nothing(cluster: Cluster, go: Path) -> None:
    number = submit(
        cluster,
        waiting(go).replace("name: t,", "name: t, timeout: 12,"),
        nodes=2,
        run="--lost-after 4 --orphan-grace 4",
    )
    begun(cluster)
    cluster.scontrol("suspend", str(number))
    pause(6.5)
    cluster.scontrol("resume", str(number))
    pause(1.5)
    host = cluster.job(number).batch_host
    both = [one for one in cluster.processes_in_node(host) if "-m sflow_ctl run" in one.command]
    cluster.run_in_node(host, ["kill", "-STOP", str(pid_in_node(cluster, host))])
    pause(6.5)
    cluster.run_in_node(host, ["kill", "-CONT", str(pid_in_node(cluster, host))])
    assert [one.is_alive for one in both] == [True, True]
    go.touch()
    job = cluster.wait_job(number, within_s=60)
    assert job.state == "COMPLETED", cluster.output(number)
    assert log(cluster, "t").endswith("done\n")


def test_public_16_a_run_that_a_step_starts_several_times_is_one_run(cluster: Cluster) -> None:
    count = cluster.shared / "count"
    count.unlink(missing_ok=True)
    path = workflow(cluster, f"    - {{name: a, operator: one, script: ['echo x >> {count}']}}\n", nodes=2)
    out = cluster.shared / "out"
    run = f"{SFLOW_CTL} run {path} --output-dir {out}"
    script = "\n".join(
        [
            "set -e",
            f"srun -n2 --ntasks-per-node=1 {run}",
            f"srun -N1 -n1 {run}",
            f"srun -n6 --overlap {run} --run-id run",
            f"srun -n2 --ntasks-per-node=1 --mpi=pmi2 {run} --resume run",
        ]
    )
    job = cluster.wait_job(cluster.sbatch(script, nodes=2, ntasks_per_node=3), within_s=90)
    printed = cluster.output(job.number)
    assert job.state == "COMPLETED", printed
    assert count.read_text() == "x\n" * 3, printed
    assert printed.count("does nothing: process 0 does the work") == 1 + 5 + 1
    assert "has completed: there is nothing to resume" in printed
    assert len([one for one in out.iterdir() if one.is_dir()]) == 3
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def fresh_again(cluster: Cluster) -> None:
    """No run of an earlier part."""
    cluster.run_in_node(HEAD, ["rm", "-rf", str(cluster.shared / "out")])


def pid_in_node(cluster: Cluster, host: str) -> int:
    """The controller's, as the node counts: its supervisor has started it."""
    found = cluster.run_in_node(host, ["pgrep", "-f", "^[^ ]*python[^ ]* -m sflow_ctl run"]).stdout.split()
    return max(map(int, found))
