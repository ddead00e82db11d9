"""Loops and late lists on several nodes: killed in iteration 7, resumed in another job, a node lost in the middle."""

import json
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, kill_run, ours_left, summary
from tests.support import EXAMPLES, await_takeover, wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

LOOP = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 2, gpus_per_node: 4}}
operators: {one: {type: srun, ntasks: 1}}
workflow:
  name: w
  outputs: {n: learn.outputs.n}
  blocks:
    step:
      inputs: {n: int}
      outputs: {n: "${{ task.last.outputs.n }}"}
      tasks:
        list:
          operator: one
          script: ['echo "{\\"names\\": [0, 1]}" > $SFLOW_OUTPUTS_FILE']
          outputs: {names: {type: list}}
        each:
          operator: one
          on_node_lost: elsewhere
          foreach: ${{ task.list.outputs.names }}
          resources: {gpus: {count: 4}}
          script:
            - echo $SLURMD_NODENAME
            - if [ $SFLOW_ITERATION = 6 ]; then until [ -e GO ]; do sleep 0.1; done; fi
            - 'echo "{\\"v\\": $(( ${{ block.inputs.n }} + SFLOW_ITEM ))}" > $SFLOW_OUTPUTS_FILE'
          outputs: {v: {type: int}}
        last:
          operator: one
          inputs: {all: {from: each.outputs.v}}
          script: ['echo "values $INPUT_ALL"; echo "{\\"n\\": $(( ${{ block.inputs.n }} + 1 ))}" > $SFLOW_OUTPUTS_FILE']
          outputs: {n: {type: int}}
  tasks:
    learn:
      block: step
      with: {n: 0}
      loop: {max_iterations: 9, until: "${{ last.outputs.n >= 8 }}", carry: {n: "${{ last.outputs.n }}"}}
"""


def submit(cluster: Cluster, run: str = "", **options: str | int | bool) -> int:
    path = cluster.shared / "w.yaml"
    path.write_text(LOOP.replace("GO", f"{cluster.shared}/go"))
    words = f"run {path} --output-dir {cluster.shared}/out {run or '--run-id run'}"
    return cluster.sbatch(f"exec {SFLOW_CTL} {words}", nodes=2, gres="gpu:4", **options)


def in_iteration_7(cluster: Cluster, run: str = "", **options: str | int | bool) -> tuple[int, list[Path]]:
    """Return the job of a run that has come to its seventh iteration, and the logs of the copies that wait there."""
    (cluster.shared / "go").unlink(missing_ok=True)
    number = submit(cluster, run, **options)
    logs = [cluster.shared / f"out/run/learn_6.each_{item}/learn_6.each_{item}.log" for item in (0, 1)]
    wait_until(lambda: all(log.exists() and log.stat().st_size for log in logs), "iteration 7 runs", 120)
    assert len({log.read_text() for log in logs}) == 2, "each copy has a node"
    return number, logs


def check_end(cluster: Cluster, number: int) -> dict[str, int]:
    """Assert that the run has completed; return the attempts of its tasks."""
    (cluster.shared / "go").touch()
    job = cluster.wait_job(number, within_s=120)
    assert job.state == "COMPLETED", cluster.output(number)
    found = json.loads((cluster.shared / "out/run/.sflow/outputs.json").read_text())["outputs"]
    assert [one["value"] for one in found] == [8]
    tasks = summary(cluster)["tasks"]
    assert isinstance(tasks, list)
    assert "values [7,8]" in (cluster.shared / "out/run/learn_7.last/learn_7.last.log").read_text()
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)
    ran = [task for task in tasks if "." in task["name"] and not task["name"].endswith(".each")]
    assert len(ran) == 8 * 4
    return {task["name"]: task["attempts"] for task in ran}


def test_a_successor_continues_in_iteration_7(cluster: Cluster) -> None:
    number, _ = in_iteration_7(cluster)
    host = cluster.job(number).batch_host
    both = [one for one in cluster.processes_in_node(host) if "-m sflow_ctl run" in one.command]
    max(both, key=lambda one: (one.started, one.pid)).kill()
    await_takeover(cluster.shared / "out/run", within_s=60)
    attempts = check_end(cluster, number)
    assert set(attempts.values()) == {1}


def test_another_job_continues_in_iteration_7(cluster: Cluster) -> None:
    number, _ = in_iteration_7(cluster)
    kill_run(cluster, cluster.job(number).batch_host)
    cluster.wait_job(number, within_s=120)
    attempts = check_end(cluster, submit(cluster, f"--resume {cluster.shared}/out/run"))
    assert {name for name, count in attempts.items() if count != 1} == {"learn_6.each_0", "learn_6.each_1"}


def test_the_copy_of_a_lost_node_runs_elsewhere_and_the_loop_continues(cluster: Cluster) -> None:
    number, logs = in_iteration_7(cluster, "--run-id run --lost-after 5", no_kill=True, no_requeue=True)
    host = cluster.job(number).batch_host
    (lost,) = {log.read_text().strip() for log in logs} - {host}
    cluster.power_off(lost)
    journal = cluster.shared / "out/run/.sflow/events.jsonl"
    wait_until(lambda: b'"node_lost"' in journal.read_bytes(), "the node is lost", 60)
    try:
        attempts = check_end(cluster, number)
    finally:
        cluster.power_on(lost)
        cluster.wait_node(lost, "idle")
    moved = {name: count for name, count in attempts.items() if count != 1}
    assert moved in ({"learn_6.each_0": 2}, {"learn_6.each_1": 2}), (
        "nothing else runs again, and the other agent stays"
    )


def test_the_example_of_active_learning_is_resumed_by_another_job(cluster: Cluster) -> None:
    path = cluster.shared / "active.yaml"
    path.write_text((EXAMPLES / "active_learning.yaml").read_text())
    run = f"{cluster.shared}/out/run"
    number = cluster.sbatch(
        f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run", nodes=1
    )
    begun = Path(run) / "learn_2.select"
    wait_until(begun.exists, "it is in its third iteration", 120)
    kill_run(cluster, cluster.job(number).batch_host)
    cluster.wait_job(number, within_s=120)
    again = cluster.sbatch(f"exec {SFLOW_CTL} run --resume {run}", nodes=1)
    assert cluster.wait_job(again, within_s=180).state == "COMPLETED", cluster.output(again)
    assert "learned from 19 points" in cluster.output(again)
