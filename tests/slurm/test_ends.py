"""How runs end when Slurm, or a node, ends them: the class of the end, work at the end, and going on after a requeue."""

import json

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, kill_run, ours_left, summary
from tests.slurm.test_runs import submit, workflow
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

LONG = "    - {name: long, operator: one, script: ['exec sleep 7777']}\n"
COLLECT = (
    "    - {name: collect, finally: true, operator: one, script: "
    "['echo $SFLOW_RUN_OUTCOME: $SFLOW_RUN_CAUSE']}\n"
)


def log(cluster: Cluster, task: str, name: str = "") -> str:
    """Return the output of a task."""
    return (cluster.shared / "out" / "run" / task / (name or f"{task}.log")).read_text()


def tasks_run(cluster: Cluster, count: int = 1) -> None:
    """Waits until so many of the long tasks run."""
    wait_until(lambda: sum("7777" in one for one in ours_left(cluster)) >= count, "the tasks run", 30)


def run_ends(cluster: Cluster, within_s: float = 60.0) -> dict[str, object]:
    """The summary, once it is there."""
    wait_until((cluster.shared / "out" / "run" / ".sflow/summary.json").exists, "the run ends", within_s)
    return summary(cluster)


def test_f36_work_at_the_end_is_done_within_the_headroom(cluster: Cluster) -> None:
    number = submit(cluster, LONG + COLLECT, nodes=2, run="--headroom 50", time="1")
    job = cluster.wait_job(number, within_s=60)
    assert job.exit_code.startswith("124:"), cluster.output(number)
    assert log(cluster, "collect") == "timeout: the Slurm job's time is nearly over\n"
    assert summary(cluster)["outcome"] == "timeout"
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def test_f37_a_warning_signal_is_the_time_limits(cluster: Cluster) -> None:
    number = submit(cluster, LONG + COLLECT, nodes=2, run="--headroom 1", time="1", signal="B:USR1@55")
    job = cluster.wait_job(number, within_s=60)
    assert job.exit_code.startswith("124:"), cluster.output(number)
    assert log(cluster, "collect") == "timeout: SIGUSR1 announces that the job's time is nearly over\n"
    cause = summary(cluster)["cause"]
    assert isinstance(cause, dict)
    assert cause["reason"]["word"] == "time_limit"


def test_f37_work_at_the_end_is_done_when_the_job_is_cancelled(cluster: Cluster) -> None:
    number = submit(cluster, LONG + COLLECT, nodes=2)
    tasks_run(cluster)
    cluster.slurm("scancel", "--batch", "--signal=TERM", str(number))
    assert run_ends(cluster)["outcome"] == "terminated"
    assert log(cluster, "collect") == "terminated: stopped by SIGTERM\n"
    cluster.wait_job(number, within_s=60)


def test_p8_an_element_of_an_array_has_its_own_end(cluster: Cluster) -> None:
    """The last element has the array's number; its sibling has ended by then."""
    path = workflow(cluster, LONG, nodes=1)
    command = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run"
    script = f"[ $SLURM_ARRAY_TASK_ID = 1 ] || exit 0\n{command}"
    number = cluster.sbatch(script, array="0-1")
    tasks_run(cluster)
    cluster.scancel(f"{number}_1")
    whole = run_ends(cluster)
    assert whole["outcome"] == "terminated"
    cause = whole["cause"]
    assert isinstance(cause, dict)
    assert cause["reason"]["word"] == "cancelled", cause


def test_f38_a_requeued_job_resumes_in_its_run_directory(cluster: Cluster) -> None:
    tasks = (
        "    - {name: first, operator: one, script: ['echo attempt $SFLOW_ATTEMPT']}\n"
        "    - {name: second, operator: one, depends_on: [first], script: "
        "['echo attempt $SFLOW_ATTEMPT; [ $SFLOW_ATTEMPT = 2 ] || exec sleep 7777']}\n"
    )
    number = submit(cluster, tasks, nodes=2, requeue=True, open_mode="append")
    tasks_run(cluster)
    cluster.scontrol("requeue", str(number))
    job = cluster.wait_job(number, within_s=120)
    printed = cluster.output(number)
    assert job.state == "COMPLETED", printed
    assert job.restarts == 1
    assert "this job was requeued: resuming" in printed
    assert "1 of 2 tasks already completed" in printed
    assert log(cluster, "first") == "attempt 1\n"
    assert log(cluster, "second") == "attempt 2\n"
    assert log(cluster, "second", "second.attempt-1.log") == "attempt 1\n"
    facts = json.loads((cluster.shared / "out" / "run" / ".sflow/run.json").read_text())
    assert facts["incarnation"] == 2
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def test_f38_a_job_whose_controller_was_killed_resumes_on_another_node(cluster: Cluster) -> None:
    """It starts again before its first controller's last sign of life is a minute old."""
    tasks = "    - {name: t, operator: one, script: ['[ $SFLOW_ATTEMPT = 2 ] || exec sleep 7777']}\n"
    number = submit(cluster, tasks, nodes=1, requeue=True, open_mode="append")
    tasks_run(cluster)
    host = cluster.job(number).batch_host
    cluster.scontrol("update", f"nodename={host}", "state=drain", "reason=test")
    cluster.scontrol("requeue", str(number))
    kill_run(cluster, host)
    job = cluster.wait_job(number, within_s=120)
    printed = cluster.output(number)
    assert job.state == "COMPLETED", printed
    assert job.batch_host != host, printed
    assert "this job was requeued: resuming" in printed
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)


def test_f35_a_node_without_power_is_lost_by_name(cluster: Cluster) -> None:
    number = submit(
        cluster, LONG.replace(
            "long,", "long, on_node_lost: fail, replicas: {count: 2}, resources: {nodes: {count: 1}},"
        ),
        nodes=2, run="--lost-after 3 --orphan-grace 5", no_kill=True,
    )  # fmt: skip
    tasks_run(cluster, 2)
    host = cluster.job(number).batch_host
    other = next(one.split()[0] for one in ours_left(cluster) if "7777" in one and one.split()[0] != host)
    cluster.power_off(other)
    whole = run_ends(cluster)
    assert whole["outcome"] == "failed"
    assert f"node {other} was lost" in str(whole["cause"])
    cluster.wait_job(number, within_s=120)
    cluster.power_on(other)
    wait_until(lambda: not ours_left(cluster), "nothing is left", 60)


def test_f35_the_rest_of_the_run_continues_where_the_workflow_allows_it(cluster: Cluster) -> None:
    """A node loses power; what ran there failed alone, what may run elsewhere runs there."""
    tasks = (
        "    - {name: there, operator: one, on_failure: continue, on_node_lost: fail, replicas: {count: 2}, "
        "resources: {nodes: {count: 1}}, script: ['exec sleep 7777'], timeout: 25}\n"
        "    - {name: moved, operator: one, replicas: {count: 3}, resources: {nodes: {count: 1}}, "
        "depends_on: [{task: there, until: finished}], script: ['hostname']}\n"
        + COLLECT
    )  # fmt: skip
    number = submit(cluster, tasks, nodes=2, run="--no-kill --lost-after 3 --orphan-grace 5", no_kill=True)
    tasks_run(cluster, 2)
    host = cluster.job(number).batch_host
    other = next(one.split()[0] for one in ours_left(cluster) if "7777" in one and one.split()[0] != host)
    cluster.power_off(other)
    whole = run_ends(cluster, 90)
    states = {task["name"]: task["state"] for task in whole["tasks"]}  # type: ignore[attr-defined]
    assert sorted(states[f"there_{n}"] for n in range(2)) == ["lost", "timeout"], (
        f"{states}\n{cluster.job(number)}\n{cluster.output(number)}"
    )
    assert [states[f"moved_{n}"] for n in range(3)] == ["completed"] * 3
    assert {log(cluster, f"moved_{n}") for n in range(3)} == {f"{host}\n"}
    assert whole["outcome"] == "completed"
    assert len(whole["tolerated"]) == 2  # type: ignore[arg-type]
    cluster.power_on(other)
    cluster.wait_job(number, within_s=120)


def test_f35_a_dead_slurmd_does_not_end_a_run(cluster: Cluster) -> None:
    """The step's processes live on without the daemon; Slurm notices later, if at all."""
    tasks = LONG.replace("long,", "t, replicas: {count: 2}, resources: {nodes: {count: 1}},")
    tasks = tasks.replace("exec sleep 7777", "sleep 4; hostname")
    number = submit(cluster, tasks, nodes=2, no_kill=True)
    wait_until(lambda: sum("sleep 4" in p.command for n in cluster.nodes for p in cluster.processes_in_node(n)) >= 2,
               "the tasks run", 30)  # fmt: skip
    host = cluster.job(number).batch_host
    other = next(
        n
        for n in cluster.nodes
        if n != host and any("sleep 4" in p.command for p in cluster.processes_in_node(n))
    )
    cluster.kill_slurmd(other)
    assert run_ends(cluster)["outcome"] == "completed"
    cluster.start_slurmd(other)
    cluster.wait_job(number, within_s=120)


def test_n4_what_agent_and_guardian_leave_on_a_node_is_ended_there(cluster: Cluster) -> None:
    """Slurm does not track it, with linuxproc; one daemon has no environment. A step of the run's own ends all."""
    script = (
        "['setsid sleep 7777 > /dev/null 2>&1 < /dev/null &', "
        "'env -i setsid -f sleep 7777 > /dev/null 2>&1 < /dev/null', 'exec sleep 7777']"
    )
    place = "replicas: {count: 2}, resources: {nodes: {count: 1}}, operator: one, on_node_lost: fail"
    number = submit(cluster, f"    - {{name: t, {place}, script: {script}}}\n", nodes=2, run="--lost-after 3")
    wait_until(lambda: sum(one.endswith(" sleep 7777") for one in ours_left(cluster)) == 6, "all run", 30)
    host = cluster.job(number).batch_host
    other = next(one.split()[0] for one in ours_left(cluster) if one.split()[0] != host)
    for process in cluster.processes_in_node(other):
        if "sflow_agent" in process.command:
            process.kill()
    cause = run_ends(cluster)["cause"]
    assert f"node {other} was lost" in str(cause)
    cluster.wait_job(number, within_s=60)
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 20)
    written = (cluster.shared / "out" / "run" / "sflow.log").read_text()
    assert f"node {other}: what was left there was ended" in written
