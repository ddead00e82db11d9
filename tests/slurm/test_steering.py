"""Commands that change a run, in a real job: from a host without a route to it, and of a job that has not started."""

import json
import re
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.slurm.settings import HEAD
from tests.slurm.test_runs import submit
from tests.support import wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

TASKS = (
    "    - {name: srv, operator: one, script: ['trap \"echo usr1\" USR1; echo up; while :; do sleep 0.1; done'],\n"
    "       probes: {readiness: {log_watch: {regex_pattern: up}}}}\n"
    "    - {name: cli, operator: one, depends_on: [srv], script: ['sleep 7777']}\n"
    "    - {name: rest, operator: one, script: ['sleep 7777']}\n"
)


def states(run: Path) -> dict[str, str]:
    """The newest state of each task, as far as the journal can be read."""
    journal = run / ".sflow/events.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    changes = [one["transition"] for one in map(json.loads, lines) if "transition" in one]
    return {change["task"]: change["new"] for change in changes}


def test_a_run_is_changed_by_files_where_its_controller_cannot_be_reached(cluster: Cluster) -> None:
    number = submit(cluster, TASKS, nodes=2)
    run = cluster.shared / "out" / "run"
    wait_until(lambda: states(run).get("cli") == "running", "the client runs", 60)
    for port in re.findall(r":(\d+)\"", (run / ".sflow/connection.json").read_text()):
        rule = ["INPUT", "-p", "tcp", "--sport", port, "-j", "DROP"]
        assert cluster.run_in_node(HEAD, ["iptables", "-A", *rule]).returncode == 0

    def change(*words: str) -> str:
        argv = [*SFLOW_CTL.split(), words[0], str(run), *words[1:], "-v"]
        done = cluster.run_in_node(HEAD, argv)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "by a file in the run directory" in done.stderr
        return done.stdout

    assert change("signal", "srv", "USR1") == "srv gets SIGUSR1\n"
    wait_until(lambda: "usr1\n" in (run / "srv/srv.log").read_text(), "the program has got it", 30)
    assert change("pause").startswith("the run is paused: nothing new starts; 3 live")
    waits = "the run is paused: what starts again waits for `sflow-ctl unpause`\n"
    assert change("restart", "rest") == f"{waits}rest is being stopped, and starts again\n"
    wait_until(lambda: states(run)["rest"] == "queued", "it waits", 30)
    assert change("unpause") == "tasks start again\n"
    wait_until(lambda: states(run)["rest"] == "running", "it runs again", 30)
    assert change("stop", "srv") == "srv is being stopped\n"
    wait_until(lambda: states(run)["cli"] == "cancelled", "its client is stopped", 30)
    assert change("cancel") == "stopping the run: 1 live task\n"
    assert cluster.wait_job(number, within_s=60).state == "FAILED"  # as of a run that was interrupted
    assert summary(cluster)["outcome"] == "interrupted"
    assert "asks to stop srv" in (run / "sflow.log").read_text()
    assert ours_left(cluster) == []


def test_a_job_that_waits_is_cancelled_by_its_number(cluster: Cluster) -> None:
    number = submit(cluster, TASKS, nodes=2, hold=True)
    argv = [*SFLOW_CTL.split(), "cancel", str(number), "--output-dir", f"{cluster.shared}/out"]
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    done = cluster.run_in_node(HEAD, argv, env={"PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(rf"job {number} \(.*, pending\) is cancelled\n", done.stdout), done.stdout
    assert cluster.wait_job(number, within_s=30).state == "CANCELLED"


def test_exec_enters_a_task_on_another_node(cluster: Cluster) -> None:
    tasks = (
        "    - {name: t, script: ['echo $(hostname); cd /usr; sleep 7777; true'],\n"
        "       resources: {nodes: {indices: [1]}, gpus: {count: 1}}}\n"
    )
    number = submit(cluster, tasks, nodes=2)
    run = cluster.shared / "out" / "run"
    log = run / "t/t.log"
    wait_until(lambda: log.exists() and log.read_text(), "the task runs", 60)
    host = log.read_text().strip()
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    script = "echo $(hostname) $PWD $CUDA_VISIBLE_DEVICES; exit 7"
    done = cluster.run_in_node(
        HEAD, [*SFLOW_CTL.split(), "exec", str(run), "t", "--", "sh", "-c", script], env=path
    )
    assert done.stdout == f"{host} /usr 0\n", done.stdout + done.stderr
    assert done.returncode == 7
    cluster.start_in_node(HEAD, [*SFLOW_CTL.split(), "exec", str(run), "t", "--", "sleep", "7778"], env=path)
    wait_until(lambda: _sleepers(cluster, host), "it runs", 30)
    (ours,) = [one for one in cluster.processes_in_node(HEAD) if "-m sflow_ctl exec" in one.command]
    ours.kill()  # SIGKILL: it can do nothing about it
    wait_until(lambda: not _sleepers(cluster, host), "nothing is left of it", 30)
    cluster.scancel(number)
    cluster.wait_job(number, within_s=60)


def test_exec_enters_a_process_of_a_job_step(cluster: Cluster) -> None:
    """By its number in the step, on whichever node it is; also where the step's `export` has kept the marks from it."""
    script = "cd /usr; echo $(hostname) $SFLOW_RANK up; sleep 7777; true"
    tasks = (
        f"    - {{name: t, script: ['{script}'], operator: {{name: one, mpi: none, ntasks: 2, export: PATH}},\n"
        "       resources: {nodes: {count: 2}}}\n"
        f"    - {{name: u, script: ['{script}'], operator: {{name: one, mpi: none, ntasks: 1}},\n"
        "       resources: {gpus: {indices: [3]}}}\n"
    )
    number = submit(cluster, tasks, nodes=2)
    logs = [cluster.shared / f"out/run/{task}/{task}.log" for task in "tu"]
    wait_until(lambda: sum(log.read_text().count("up") for log in logs if log.exists()) == 3, "all run", 60)
    places = dict(line.split()[-3:-1][::-1] for line in logs[0].read_text().splitlines())
    (host,) = [line.split()[0] for line in logs[1].read_text().splitlines()]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

    def execute(task: str, rank: str, script: str) -> tuple[int, str, str]:
        argv = [*SFLOW_CTL.split(), "exec", f"{cluster.shared}/out/run", task, "--rank", rank]
        done = cluster.run_in_node(HEAD, [*argv, "--", "sh", "-c", script], env=path)
        return done.returncode, done.stdout, done.stderr

    for rank in ("0", "1"):
        status, output, errors = execute("t", rank, "echo $(hostname) $PWD $SFLOW_RANK; exit 7")
        assert (status, output) == (7, f"{places[rank]} /usr {rank}\n"), errors
    assert execute("u", "0", "echo $(hostname) $CUDA_VISIBLE_DEVICES")[:2] == (0, f"{host} 3\n")
    assert "t#1 has no process 2" in execute("t", "2", "true")[2]
    cluster.scancel(number)
    cluster.wait_job(number, within_s=60)


def _sleepers(cluster: Cluster, host: str) -> list[str]:
    return [one.command for one in cluster.processes_in_node(host) if one.command == "sleep 7778"]
