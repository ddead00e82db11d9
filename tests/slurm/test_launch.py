"""Commands to Slurm, and how its answers are read: against the real programs."""

import pytest

from sflow_ctl.slurm.nodelist import expand_nodelist
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left
from tests.slurm.settings import HEAD
from tests.slurm.test_runs import submit, workflow
from tests.support import wait_until
from tests.unit.core.test_step_command import NODE_LISTS

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]


def test_f08_a_users_own_steps_start_beside_ours(cluster: Cluster) -> None:
    """From inside a task, and from outside of the job, while the agents' step runs on all nodes."""
    go = cluster.shared / "go"
    go.unlink(missing_ok=True)
    nested = "srun --overlap --nodes=2 --ntasks=2 hostname | sort"
    number = submit(
        cluster,
        f"    - {{name: t, operator: one, script: ['{nested}; until [ -e {go} ]; do sleep 0.1; done']}}\n",
        nodes=2,
    )
    log = cluster.shared / "out" / "run" / "t" / "t.log"
    try:
        wait_until(lambda: log.exists() and log.read_text().count("\n") == 2, "the step inside the task", 30)
        words = ["srun", f"--jobid={number}", "--overlap", "--nodes=1", "--ntasks=1", "hostname"]
        done = cluster.run_in_node(HEAD, words, within_s=30)
        assert done.returncode == 0, done.stderr
    finally:
        go.touch()
    job = cluster.wait_job(number, within_s=60)
    assert job.state == "COMPLETED", cluster.output(number)
    names = expand_nodelist(job.node_list)
    assert log.read_text().split() == names
    assert done.stdout.strip() in names


def test_f09_node_lists_expand_as_in_slurm(cluster: Cluster) -> None:
    for text, names in NODE_LISTS:
        assert cluster.scontrol("show", "hostnames", text).split() == names == expand_nodelist(text)


def test_f53_tasks_of_a_real_job_see_nothing_of_the_agents_step(cluster: Cluster) -> None:
    number = submit(cluster, "    - {name: t, operator: one, script: ['env']}\n", nodes=2, job_name="mine")
    assert cluster.wait_job(number, within_s=60).state == "COMPLETED", cluster.output(number)
    lines = (cluster.shared / "out" / "run" / "t" / "t.log").read_text().splitlines()
    seen = dict(line.partition("=")[::2] for line in lines)
    of_a_step = {
        "SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_LAUNCHER_PORT", "SLURM_STEP_GPUS", "SLURM_SRUN_COMM_HOST",
        "SLURM_SRUN_COMM_PORT", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_DISTRIBUTION", "SLURM_UMASK", "SLURM_GTIDS",
        "SLURM_TASK_PID",
    }  # fmt: skip
    assert not of_a_step & seen.keys()
    assert not [name for name in seen if name.startswith(("PMI", "OMPI", "SFLOW_AGENT"))]
    assert (seen["SLURM_JOB_ID"], seen["SLURM_NTASKS"], seen["SLURM_PROCID"]) == (str(number), "1", "0")
    assert seen["SLURM_JOB_NAME"] == "mine", "the job's name, not that of the agents' step"
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def test_p6_a_users_file_of_hosts_does_not_place_the_agents(cluster: Cluster) -> None:
    hosts = cluster.shared / "hosts"
    hosts.write_text("node0\nnode0\nnode1\nnode1\n")
    path = workflow(
        cluster, "    - {name: t, operator: one, replicas: {count: 2}, script: ['hostname']}\n", nodes=2
    )
    command = f"{SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run --join-within 20"
    number = cluster.sbatch(f"export SLURM_HOSTFILE={hosts}\nexec {command}", nodes=2)
    assert cluster.wait_job(number, within_s=60).state == "COMPLETED", cluster.output(number)


def test_p11_gpus_that_are_spread_unevenly_get_a_hint(cluster: Cluster) -> None:
    """And a user's filters of squeue hide nothing."""
    path = workflow(cluster, "    - {name: t, operator: one, script: ['hostname']}\n", nodes=2)
    command = f"{SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run"
    number = cluster.sbatch(
        f"export SQUEUE_STATES=PENDING SQUEUE_USERS=nobody\nexec {command}", nodes=2, gpus=5
    )
    job = cluster.wait_job(number, within_s=60)
    printed = cluster.output(number)
    assert "squeue does not show" not in printed
    assert job.state == "COMPLETED" or "request them per node, --gpus-per-node;" in printed, printed
