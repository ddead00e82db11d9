"""Whole runs inside real Slurm jobs: one srun, whatever the number of tasks; nothing is left when they end."""

import shutil
from pathlib import Path

import pytest

from sflow_ctl.slurm.nodelist import expand_nodelist
from tests.slurm.counted_srun import CountedSrun
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

HEAD = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: NODES, gpus_per_node: 4}}
operators: {one: {type: srun, ntasks: 1}}
workflow:
  name: w
  tasks:
"""


def workflow(cluster: Cluster, tasks: str, nodes: int = 4) -> Path:
    """A file that every node sees."""
    path = cluster.shared / "w.yaml"
    path.write_text(HEAD.replace("NODES", str(nodes)) + tasks)
    return path


def submit(cluster: Cluster, tasks: str, nodes: int = 4, run: str = "", **options: str | int | bool) -> int:
    """A job that runs these tasks; its run directory is `out/run` below the shared directory."""
    path = workflow(cluster, tasks, nodes)
    script = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run {run}"
    return cluster.sbatch(script, nodes=nodes, gres="gpu:4", **options)


def test_two_hundred_tasks_on_four_nodes_take_one_srun(cluster: Cluster) -> None:
    counted = CountedSrun(cluster.shared / "counted")
    path = workflow(
        cluster,
        "    - {name: t, operator: one, replicas: {count: 200}, resources: {nodes: {count: 1}}, script: ['hostname']}\n",
    )
    run = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run -q"
    script = f"export PATH={counted.directory}:$PATH\n{run}"
    job = cluster.wait_job(cluster.sbatch(script, nodes=4, gres="gpu:4"), within_s=60)
    assert job.state == "COMPLETED", cluster.output(job.number)
    assert len(counted.calls()) == 1
    hosts = [
        (cluster.shared / "out" / "run" / f"t_{n}" / f"t_{n}.log").read_text().strip() for n in range(200)
    ]
    assert set(hosts) == set(cluster.nodes)


def test_a_task_without_resources_runs_once_on_every_node_in_slurms_order(cluster: Cluster) -> None:
    script = "echo $SLURM_PROCID $SLURM_NODEID $SLURMD_NODENAME $(hostname) $SLURM_NNODES $SLURM_JOB_ID ${SLURM_STEP_ID-none}"
    number = submit(
        cluster,
        f"    - {{name: all, script: ['{script}']}}\n"
        "    - {name: two, resources: {nodes: {indices: [3, 1]}}, depends_on: [all],\n"
        "       script: ['echo $SLURM_PROCID $SLURMD_NODENAME ${{ task.two.nodes[0].name }} "
        "${{ task.two.nodes[0].ip_address }}']}\n",
    )
    job = cluster.wait_job(number, within_s=60)
    assert job.state == "COMPLETED", cluster.output(number)
    logs = cluster.shared / "out" / "run"
    lines = sorted((logs / "all" / "all.log").read_text().splitlines())
    assert lines == [f"{n}: {n} {n} node{n} node{n} 4 {number} none" for n in range(4)]
    two = sorted((logs / "two" / "two.log").read_text().splitlines())
    address = two[0].split()[-1]
    assert two == [f"0: 0 node3 node3 {address}", f"1: 1 node1 node3 {address}"]
    assert address.startswith("10.")


def test_gpus_are_slices_of_the_jobs_gpus(cluster: Cluster) -> None:
    number = submit(
        cluster,
        "    - {name: g, operator: one, replicas: {count: 4}, resources: {gpus: {count: 2}},\n"
        "       script: ['echo $(hostname) $CUDA_VISIBLE_DEVICES']}\n",
        nodes=2,
    )
    job = cluster.wait_job(number, within_s=60)
    assert job.state == "COMPLETED", cluster.output(number)
    seen = [(cluster.shared / "out" / "run" / f"g_{n}" / f"g_{n}.log").read_text().split() for n in range(4)]
    first, second = seen[0][0], seen[2][0]
    assert seen == [[first, "0,1"], [first, "2,3"], [second, "0,1"], [second, "2,3"]]


def test_fewer_gpus_than_expected_end_the_run_before_it_begins_and_name_the_node(cluster: Cluster) -> None:
    path = workflow(cluster, "    - {name: g, script: ['true']}\n", nodes=1)
    number = cluster.sbatch(
        f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out", nodes=1, gres="gpu:2"
    )
    job = cluster.wait_job(number, within_s=60)
    assert job.state == "FAILED"
    assert job.exit_code.startswith("3:")
    assert "has 2 GPUs for this run; gpus_per_node is 4" in cluster.output(number)
    assert not list((cluster.shared / "out").iterdir())


def test_a_failed_run_is_a_failed_job(cluster: Cluster) -> None:
    number = submit(cluster, "    - {name: bad, operator: one, script: ['exit 3']}\n", nodes=2)
    job = cluster.wait_job(number, within_s=60)
    assert (job.state, job.exit_code) == ("FAILED", "1:0")
    assert "task bad failed: exit status 3" in cluster.output(number)


def test_f36_scancel_ends_everything_within_the_grace(cluster: Cluster) -> None:
    number = submit(cluster, "    - {name: long, script: ['setsid sleep 7777 & exec sleep 7777']}\n")
    wait_until(lambda: len([one for one in ours_left(cluster) if "7777" in one]) >= 8, "the tasks run", 30)
    cluster.scancel(number)
    cluster.wait_job(number, within_s=60)
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)


@pytest.mark.parametrize("partition", ["main", "requeued", "cancelled"])
def test_f37_that_slurm_ends_a_run_is_the_cause(partition: str, cluster: Cluster) -> None:
    """Not that the tasks died of its signal, which may come to them first."""
    number = submit(
        cluster,
        "    - {name: long, on_node_lost: fail, script: ['exec sleep 7777']}\n",
        exclusive=True,
        partition=partition,
    )
    wait_until(lambda: any("7777" in one for one in ours_left(cluster)), "the tasks run", 30)
    if partition == "main":
        cluster.scancel(number)
    else:
        cluster.sbatch("sleep 20", nodes=4, exclusive=True)
    ended = cluster.shared / "out" / "run" / ".sflow/summary.json"
    wait_until(ended.exists, "the run ends", 30)
    cause = summary(cluster)["cause"]
    assert isinstance(cause, dict), cause
    assert cause["reason"]["word"] in ("cancelled", "preempted"), cause
    assert cause["text"].startswith("stopped by SIGTERM (Slurm: the job was ")
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def test_f35_a_node_that_is_cut_off_is_lost_by_name_and_the_run_ends(cluster: Cluster) -> None:
    number = submit(
        cluster,
        "    - {name: long, on_node_lost: fail, script: ['exec sleep 7777']}\n",
        run="--lost-after 3 --orphan-grace 5",
        no_kill=True,
    )
    wait_until(lambda: len([one for one in ours_left(cluster) if "7777" in one]) >= 4, "the tasks run", 30)
    cluster.cut("node2")
    wait_until(lambda: (cluster.shared / "out" / "run" / ".sflow/summary.json").exists(), "the run ends", 60)
    assert "node2 was lost" in str(summary(cluster)["cause"])
    cluster.heal("node2")
    cluster.wait_job(number, within_s=90)
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 60)


def test_f33_the_controllers_death_ends_the_tasks_on_all_nodes(cluster: Cluster) -> None:
    path = workflow(cluster, "    - {name: long, script: ['setsid sleep 7777 & exec sleep 7777']}\n")
    script = (
        f"{SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run --orphan-grace 3 &\n"
        f"echo $! > {cluster.shared}/pid\nwait\nsleep 60"
    )
    number = cluster.sbatch(script, nodes=4, gres="gpu:4")
    wait_until(lambda: len([one for one in ours_left(cluster) if "7777" in one]) >= 8, "the tasks run", 30)
    batch_host = cluster.job(number).batch_host
    cluster.run_in_node(batch_host, ["bash", "-c", f"kill -9 $(cat {cluster.shared}/pid)"])
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 20)
    assert cluster.job(number).state == "RUNNING"
    cluster.scancel(number)


def test_f36_the_run_ends_before_the_jobs_time_is_over(cluster: Cluster) -> None:
    number = submit(
        cluster,
        "    - {name: long, operator: one, script: ['trap \"echo bye; exit\" TERM; sleep 7777 & wait']}\n",
        nodes=1,
        run="--headroom 50",
        time="1",
    )
    job = cluster.wait_job(number, within_s=60)
    assert job.exit_code.startswith("124:"), cluster.output(number)
    assert "the Slurm job's time is nearly over" in cluster.output(number)
    assert "bye" in (cluster.shared / "out" / "run" / "long" / "long.log").read_text()


def test_f04_settings_of_the_job_do_not_change_the_one_step(cluster: Cluster) -> None:
    number = submit(
        cluster,
        "    - {name: t, script: ['echo $(nproc) $PATH']}\n",
        nodes=2,
        ntasks=4,
        ntasks_per_node=2,
        cpus_per_task=1,
    )
    job = cluster.wait_job(number, within_s=60)
    assert job.state == "COMPLETED", cluster.output(number)
    assert len((cluster.shared / "out" / "run" / "t" / "t.log").read_text().splitlines()) == 2


@pytest.mark.skipif(shutil.which("mpicc.mpich") is None, reason="MPICH is not installed")
def test_a_real_step_starts_tasks_that_need_srun(cluster: Cluster) -> None:
    path = cluster.shared / "hello_mpi"
    source = Path(__file__).with_name("hello_mpi.c")
    done = cluster.run_in_node("head", ["mpicc.mpich", str(source), "-o", str(path)], within_s=60)
    assert done.returncode == 0, done.stderr
    workflow_path = cluster.shared / "mpi.yaml"
    workflow_path.write_text(
        HEAD.replace("NODES", "2").replace("{one:", "{mpi: {type: srun, mpi: pmi2, ntasks_per_node: 2}, one:")
        + f"    - {{name: hello, operator: mpi, script: ['exec {path}']}}\n"
    )
    number = cluster.sbatch(
        f"exec {SFLOW_CTL} run {workflow_path} --output-dir {cluster.shared}/out --run-id run",
        nodes=2,
        ntasks_per_node=2,
    )
    job = cluster.wait_job(number, within_s=90)
    assert job.state == "COMPLETED", cluster.output(number)
    log = (cluster.shared / "out" / "run" / "hello" / "hello.log").read_text()
    assert "4" in log, log
    assert log.count("\n") >= 4, log


def test_outside_a_job_nodes_are_asked_for_used_and_given_back(cluster: Cluster) -> None:
    path = workflow(cluster, "    - {name: t, script: ['echo $SLURM_JOB_ID $(hostname)']}\n", nodes=2)
    argv = [*SFLOW_CTL.split(), "run", str(path), "--output-dir", f"{cluster.shared}/out", "--run-id", "run"]
    done = cluster.run_in_node("head", [*argv, "--extra-args=--gres=gpu:4"], within_s=60)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = sorted((cluster.shared / "out" / "run" / "t" / "t.log").read_text().splitlines())
    number = int(lines[0].split()[1])
    assert lines == [f"{n}: {number} node{n}" for n in range(2)]
    assert f"job {number}: waiting for its nodes" in done.stderr
    assert cluster.wait_job(number, within_s=30).state in ("CANCELLED", "COMPLETED")
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


@pytest.mark.parametrize("when", ["queued", "granted", "running"])
def test_an_own_allocation_is_cancelled_also_when_the_controller_is_killed(
    when: str, cluster: Cluster
) -> None:
    blocker = cluster.sbatch("sleep 300", nodes=4, exclusive=True) if when == "queued" else None
    if blocker is not None:
        cluster.wait_job(blocker, "RUNNING", within_s=30)
    path = workflow(cluster, "    - {name: t, script: ['exec sleep 7777']}\n", nodes=2)
    command = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run --orphan-grace 3"
    running = cluster.start_in_node(
        "head", ["bash", "-c", f"echo $$ > {cluster.shared}/own; {command} -e --gres=gpu:4"]
    )

    def jobs() -> list[list[str]]:
        lines = cluster.slurm("squeue", "--noheader", "--name=w", "--format=%i %T").splitlines()
        return [line.split() for line in lines]

    wanted = "PENDING" if when == "queued" else "RUNNING"
    wait_until(lambda: any(state == wanted for _, state in jobs()), f"the job is {wanted}", 30)
    if when == "running":
        wait_until(lambda: any("7777" in one for one in ours_left(cluster)), "the tasks run", 30)
    cluster.run_in_node("head", ["bash", "-c", f"kill -9 $(cat {cluster.shared}/own)"])
    running.wait(10)
    wait_until(lambda: not jobs(), "the job is cancelled", 30)
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)
    if blocker is not None:
        cluster.scancel(blocker)


def test_a_running_job_can_be_used_by_its_number(cluster: Cluster) -> None:
    number = cluster.sbatch("sleep 300", nodes=2, gres="gpu:4")
    cluster.wait_job(number, "RUNNING", within_s=30)
    path = workflow(cluster, "    - {name: t, script: ['echo $SLURM_JOB_ID $(hostname)']}\n", nodes=2)
    argv = [*SFLOW_CTL.split(), "run", str(path), "--output-dir", f"{cluster.shared}/out", "--run-id", "run"]
    done = cluster.run_in_node("head", [*argv, f"--jobid={number}"], within_s=60)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = sorted((cluster.shared / "out" / "run" / "t" / "t.log").read_text().splitlines())
    assert [line.split()[1] for line in lines] == [str(number)] * 2
    assert cluster.job(number).state == "RUNNING"
    done = cluster.run_in_node("head", [*argv, "--jobid=999999"], within_s=60)
    assert done.returncode == 3
    assert "job 999999 is unknown to Slurm" in done.stderr
    cluster.scancel(number)


def test_f06_a_run_may_begin_without_a_node_that_does_not_report(cluster: Cluster) -> None:
    number = submit(
        cluster,
        "    - {name: t, operator: one, replicas: {count: 6}, resources: {nodes: {count: 1}}, script: ['hostname']}\n",
        nodes=2,
        run="--min-nodes 1 --join-within 4",
        no_kill=True,
    )
    job = cluster.wait_job(number, "RUNNING", within_s=30)
    other = next(name for name in expand_nodelist(job.node_list) if name != job.batch_host)
    cluster.cut(other)
    job = cluster.wait_job(number, within_s=90)
    cluster.heal(other)
    assert "Workflow completed" in cluster.output(number)
