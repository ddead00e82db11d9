"""Tasks that are Slurm jobs of their own: submitted once, watched, cancelled, adopted by the controller that comes after."""

import json

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh
from tests.slurm.settings import HEAD
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

BEGIN = """version: "0.1"
backends: {jobs: {type: slurm_job, account: lab, partition: main, time: "00:05:00", every: 0.5s}}
workflow:
  name: w
  on_failure: continue
  tasks:
"""


def start(cluster: Cluster, tasks: str, *more: str) -> list[str]:
    """Write the workflow; return the command that runs it on the head, outside of any job."""
    path = cluster.shared / "w.yaml"
    path.write_text(BEGIN + tasks)
    words = ["run", str(path), "--output-dir", f"{cluster.shared}/out", "--run-id", "run"]
    return [*SFLOW_CTL.split(), *words, *more]


def jobs(cluster: Cluster) -> dict[str, str]:
    """Names and states of all jobs of the queue."""
    listed = cluster.run_in_node(HEAD, ["squeue", "-h", "-t", "all", "-o", "%j %T %i"]).stdout
    return {
        line.split()[0]: line.split()[1] for line in listed.splitlines() if line.split()[0].startswith("t_")
    }


def log(cluster: Cluster, task: str) -> str:
    path = cluster.shared / "out" / "run" / task / f"{task}.log"
    return path.read_text() if path.exists() else ""


def test_exit_status_nodes_and_output_are_those_of_the_jobs(cluster: Cluster) -> None:
    run = start(
        cluster,
        "    t_two: {backend: {name: jobs, nodes: 2, gpus_per_node: 1}, script: ['srun -l hostname | sort']}\n"
        "    t_bad: {script: ['echo to stderr >&2; exit 3']}\n"
        "    t_out:\n      depends_on: [t_two]\n      outputs: {n: {type: int}}\n"
        "      script: ['echo $SLURM_JOB_ID; echo ''{\"n\": 5}'' > $SFLOW_OUTPUTS_FILE']\n"
        "    t_use: {inputs: {n: {from: t_out.outputs.n}}, script: ['echo got $INPUT_N in $SLURM_JOB_ID']}\n",
    )
    done = cluster.run_in_node(HEAD, run)
    assert "t_bad" in done.stdout
    assert [line for line in log(cluster, "t_two").splitlines() if line[0].isdigit()] == [
        "0: node0",
        "1: node1",
    ]
    summary = json.loads((cluster.shared / "out/run/.sflow/summary.json").read_text())
    ends = {one["name"]: (one["state"], one.get("exit_code")) for one in summary["tasks"]}
    assert ends["t_two"] == ("completed", 0)
    assert ends["t_bad"] == ("failed", 3)
    assert "to stderr" in log(cluster, "t_bad")
    (said,) = [line for line in log(cluster, "t_use").splitlines() if line.startswith("got 5")]
    assert said.split()[-1].isdigit()


def test_a_stopped_run_cancels_its_jobs(cluster: Cluster) -> None:
    started = cluster.start_in_node(HEAD, start(cluster, "    t_long: {script: ['echo up; sleep 600']}\n"))
    wait_until(lambda: "up" in log(cluster, "t_long"), "the job", 60)
    stopped = cluster.run_in_node(HEAD, [*SFLOW_CTL.split(), "stop", f"{cluster.shared}/out/run"])
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    started.wait(60)
    assert "is cancelled" in log(cluster, "t_long")
    wait_until(lambda: jobs(cluster).get("t_long") in ("CANCELLED", None), "its end", 30)


def kill_all_of_ours(cluster: Cluster) -> None:
    """Kill watchers first: an agent that sees its controller die ends them in order, which cancels the job."""
    words = ("sflow_agent.jobs", "sflow_agent", "sflow_ctl run")
    while found := [
        one for one in cluster.processes_in_node(HEAD) if any(word in one.command for word in words)
    ]:
        for process in sorted(
            found, key=lambda one: next(i for i, word in enumerate(words) if word in one.command)
        ):
            process.kill()


def test_a_killed_run_leaves_its_job_and_the_next_one_adopts_it(cluster: Cluster) -> None:
    ready, go = cluster.shared / "ready", cluster.shared / "go"
    for path in (ready, go):
        path.unlink(missing_ok=True)
    script = f"echo $SLURM_JOB_ID >> {ready}; while [ ! -e {go} ]; do sleep 0.2; done; echo ended well"
    cluster.start_in_node(HEAD, start(cluster, f"    t_kept: {{script: ['{script}']}}\n"))
    wait_until(ready.exists, "the job", 60)
    kill_all_of_ours(cluster)
    assert jobs(cluster)["t_kept"] == "RUNNING"
    resumed = cluster.start_in_node(
        HEAD, [*SFLOW_CTL.split(), "run", "--resume", f"{cluster.shared}/out/run"]
    )
    wait_until(lambda: "continues with job" in log(cluster, "t_kept"), "the adoption", 60)
    go.touch()
    assert resumed.wait(60) == 0
    assert "ended well" in log(cluster, "t_kept")
    assert len(ready.read_text().split()) == 1


def test_a_job_that_slurm_ends_fails_with_its_reason_and_is_tried_again(cluster: Cluster) -> None:
    tries = cluster.shared / "tries"
    tries.unlink(missing_ok=True)
    script = f"echo x >> {tries}; [ $(wc -l < {tries}) -gt 1 ] || sleep 600"
    task = f"    t_again: {{retries: {{count: 1, interval: 0.1s}}, script: ['{script}']}}\n"
    started = cluster.start_in_node(HEAD, start(cluster, task))
    wait_until(tries.exists, "the job", 60)
    cluster.run_in_node(HEAD, ["scancel", "--name=t_again"])
    assert started.wait(90) == 0
    first = cluster.shared / "out/run/t_again/t_again.attempt-1.log"
    assert "CANCELLED AT" in first.read_text()
    assert '"job_cancelled"' in (cluster.shared / "out/run/.sflow/events.jsonl").read_text()
    assert len(tries.read_text().split()) == 2


def test_a_job_at_its_time_limit_and_a_preempted_one_have_these_reasons(cluster: Cluster) -> None:
    """The script lives long enough to write 143, so only Slurm knows why."""
    began = cluster.shared / "began"
    began.unlink(missing_ok=True)
    again = f"touch {began}; [ -e {began}2 ] && exit 0; touch {began}2; sleep 600"
    run = start(
        cluster,
        "    t_limit: {backend: {name: jobs, time: '00:01:00'}, script: ['sleep 600']}\n"
        f"    t_low: {{backend: {{name: jobs, partition: cancelled, nodes: 4}}, script: ['{again}']}}\n",
    )
    started = cluster.start_in_node(HEAD, run)
    wait_until(began.exists, "the job of the lower partition", 60)
    cluster.run_in_node(
        HEAD, ["sbatch", "--partition=main", "--nodes=4", "--exclusive", "--time=1", "--wrap=sleep 1"]
    )
    assert started.wait(240) == 1
    summary = json.loads((cluster.shared / "out/run/.sflow/summary.json").read_text())
    ends = {one["name"]: (one["state"], one["reason_word"]) for one in summary["tasks"]}
    assert ends == {"t_limit": ("failed", "job_timeout"), "t_low": ("completed", "exit")}
    assert "has reached its time limit: Slurm says TIMEOUT" in summary["cause"]["text"]
    assert '"job_preempted"' in (cluster.shared / "out/run/.sflow/events.jsonl").read_text()
