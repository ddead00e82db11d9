"""How real steps end, on every node, and that nothing of them is left: not even daemons without their environment.

Slurm starts their processes, below no agent; with linuxproc tracking it does not end what has left the step's session.
"""

import pytest

from sflow_ctl.slurm.nodelist import expand_nodelist
from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.slurm.settings import HEAD as HEAD_NODE
from tests.support import lines_with, wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

HEAD = """version: "0.1"
backends: {pool: {type: slurm, account: lab, partition: main, time: "00:10:00", nodes: 2, gpus_per_node: 4}}
operators:
  both: {type: srun, ntasks: 2, ntasks_per_node: 1, mpi: none}
  one: {type: srun, ntasks: 1}
  alone: {type: srun, ntasks: 1, overlap: false, mpi: none}
workflow:
  name: w
  tasks:
"""
SERVER = """    - name: server
      operator: both
      stop: {grace: 4}
      probes: &up2 {readiness: {log_watch: {match_pattern: up, match_count: 2}}}
      script:
        - 'trap "echo drained $SLURM_PROCID; exit 0" TERM'
        - 'setsid sleep 7777 > /dev/null 2>&1 < /dev/null &'
        - 'env -i setsid -f sleep 7777 > /dev/null 2>&1 < /dev/null'
        - 'echo up; sleep 7777 & wait'
"""
KEEP = "    - {name: keep, operator: one, depends_on: [server], script: ['exec sleep 7777']}\n"
DAEMON = "sleep 7777"
RUNNING = 7
"""Of a step on two nodes, each with a child of its own, one in another session and a daemon; and the job that keeps the run."""


def submit(cluster: Cluster, tasks: str, run: str = "", **options: str | int | bool) -> int:
    path = cluster.shared / "steps.yaml"
    path.write_text(HEAD + tasks)
    command = f"exec {SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run {run}"
    return cluster.sbatch(command, nodes=2, gres="gpu:4", **options)


def log_of(cluster: Cluster, task: str) -> str:
    path = cluster.shared / "out" / "run" / task / f"{task}.log"
    return path.read_text() if path.exists() else ""


def nothing_left(cluster: Cluster) -> None:
    wait_until(lambda: not ours_left(cluster), f"nothing is left: {ours_left(cluster)}", 30)


def test_clusters_f4_every_way_in_which_a_step_is_stopped(cluster: Cluster) -> None:
    """One run of many steps. None is killed that ends by its signal or command, on any node, and nothing is left."""
    tasks = (
        SERVER
        + """    - name: plain
      operator: one
      probes: &up {readiness: {log_watch: {match_pattern: up}}}
      script: ['echo up; exec sleep 7777']
    - name: deaf
      operator: both
      stop: {grace: 1}
      probes: *up2
      script: ['trap "" TERM; echo up; while :; do sleep 0.2; done']
    - name: command
      operator: one
      stop: {command: 'kill -INT $SFLOW_TASK_PID'}
      probes: *up
      script: ['trap "echo by command; exit 0" INT', 'echo up; while :; do sleep 0.1; done']
    - name: other_signal
      operator: both
      stop: USR1
      probes: *up2
      script: ['trap "echo by USR1; exit 0" USR1', 'echo up; while :; do sleep 0.1; done']
    - {name: holder, operator: alone, probes: *up, script: ['echo up; exec sleep 7777']}
    - {name: pending, operator: alone, kind: service, depends_on: [holder], script: ['exec sleep 7777']}
    - name: client
      operator: one
      main: true
      depends_on: [server, plain, deaf, command, other_signal, holder]
      script: ['true']
"""
    )  # fmt: skip
    number = submit(cluster, tasks)
    job = cluster.wait_job(number, within_s=60)
    printed = cluster.output(number)
    assert job.state == "COMPLETED", printed
    assert not ours_left(cluster)
    loaded = summary(cluster)["tasks"]
    assert isinstance(loaded, list)
    ends = {task["name"]: (task["exit_code"], task["signal"]) for task in loaded}
    assert ends == {
        "server": (0, None),
        "plain": (None, "SIGTERM"),
        "deaf": (None, "SIGKILL"),
        "command": (0, None),
        "other_signal": (0, None),
        "holder": (None, "SIGTERM"),
        "pending": ends["pending"],
        "client": (0, None),
    }, printed
    assert {"0: drained 0", "1: drained 1"} <= set(log_of(cluster, "server").splitlines())
    assert {"0: by USR1", "1: by USR1"} <= set(log_of(cluster, "other_signal").splitlines())
    assert "by command\n" in log_of(cluster, "command")
    stopped = {line.split()[0] for line in printed.splitlines() if " stopped " in line}
    assert {"server", "plain", "deaf", "command", "other_signal", "holder"} <= stopped
    assert summary(cluster)["survivors"] == []


def killed(cluster: Cluster, *words: str, node: str | None = None) -> int:
    """SIGKILL to all processes with one of these words in their command, on one node or all."""
    found = [
        process
        for one in ([node] if node else (HEAD_NODE, *cluster.nodes))
        for process in cluster.processes_in_node(one)
        if any(word in f"{process.name} {process.command}" for word in words)
    ]
    for process in found:
        process.kill()
    return len(found)


def daemons(cluster: Cluster) -> int:
    """Of the processes, those that are nothing but this program: a script's text has its name, too."""
    return sum(one.split(" ", 2)[2].strip() == DAEMON for one in ours_left(cluster))


def test_clusters_f5_nothing_of_a_step_is_left_when_its_daemon_is_killed(cluster: Cluster) -> None:
    """Slurm has lost the step's processes on that node; the run goes on to its good end."""
    client = "    - {name: client, operator: one, depends_on: [server], script: ['until [ -e go ]; do sleep 0.1; done']}\n"
    number = submit(cluster, SERVER + client.replace(" go ", f" {cluster.shared}/go "))
    wait_until(lambda: daemons(cluster) == 6, "the step and its daemons", 30)
    job = cluster.job(number)
    other = next(node for node in expand_nodelist(job.node_list) if node != job.batch_host)
    pids = [p for p in cluster.processes_in_node(other) if p.name == "slurmstepd" and ".1]" in p.command]
    assert pids, [p.command for p in cluster.processes_in_node(other)]
    for process in pids:
        process.kill()
    (cluster.shared / "go").touch()
    job = cluster.wait_job(number, within_s=60)
    (cluster.shared / "go").unlink()
    assert job.state == "COMPLETED", cluster.output(number)
    assert not ours_left(cluster)


def test_clusters_f5_nothing_of_a_step_is_left_when_the_job_is_cancelled(cluster: Cluster) -> None:
    number = submit(cluster, SERVER + KEEP)
    wait_until(lambda: daemons(cluster) == RUNNING, "the step and its daemons", 30)
    cluster.scancel(number)
    cluster.wait_job(number, within_s=60)
    nothing_left(cluster)
    assert {"0: drained 0", "1: drained 1"} <= set(log_of(cluster, "server").splitlines())


def test_clusters_f5_nothing_of_a_step_is_left_when_the_controller_is_killed(cluster: Cluster) -> None:
    """The job lives on: agents end what is theirs, after the grace that is for a network which is away."""
    (cluster.shared / "steps.yaml").write_text(HEAD + SERVER + KEEP)
    number = cluster.sbatch("sleep 600", nodes=2, gres="gpu:4")
    cluster.wait_job(number, "RUNNING")
    words = [
        "run",
        "steps.yaml",
        "--output-dir",
        "out",
        "--run-id",
        "run",
        "--jobid",
        str(number),
        "--orphan-grace",
        "2",
    ]
    cluster.start_in_node(HEAD_NODE, [*SFLOW_CTL.split(), *words])
    wait_until(lambda: daemons(cluster) == RUNNING, "the step, its daemons, and a task", 30)
    assert killed(cluster, "sflow_ctl", node=HEAD_NODE)
    nothing_left(cluster)
    assert {"0: drained 0", "1: drained 1"} <= set(log_of(cluster, "server").splitlines())


def test_clusters_f5_nothing_of_a_step_is_left_when_an_agent_is_killed(cluster: Cluster) -> None:
    """Its guardian ends what the step has on that node."""
    number = submit(cluster, SERVER + KEEP, run="--agent-restarts=0")
    wait_until(lambda: daemons(cluster) == RUNNING, "the step and its daemons", 30)
    job = cluster.job(number)
    other = next(node for node in expand_nodelist(job.node_list) if node != job.batch_host)
    agents = [p for p in cluster.processes_in_node(other) if "sflow_agent" in p.command]
    max(agents, key=lambda process: process.pid).kill()  # the guardian's child

    def left_there() -> list[str]:
        return [one for one in ours_left(cluster) if one.split()[0] == other]

    wait_until(lambda: not left_there(), f"nothing is left on {other}", 30)
    assert "1: drained 1" in log_of(cluster, "server") or "0: drained 0" in log_of(cluster, "server")
    cluster.scancel(number)
    cluster.wait_job(number, within_s=60)
    nothing_left(cluster)


FINALLY = """    - name: collect
      finally: true
      script: ['echo "$SFLOW_RUN_OUTCOME: $SFLOW_RUN_CAUSE"; sleep 1; echo collected']
"""


def test_clusters_f12_f13_a_cancelled_job_runs_what_is_for_its_end_and_says_so(cluster: Cluster) -> None:
    """Slurm signals controller, agents, srun and tasks at once; a service that leaves with 0 then is not the cause."""
    configuration = cluster.directory / "etc" / "slurm.conf"
    before = configuration.read_text()
    configuration.write_text(before.replace("KillWait=2", "KillWait=8"))
    cluster.reconfigure()
    try:
        number = submit(cluster, SERVER + KEEP + FINALLY)
        wait_until(lambda: daemons(cluster) == RUNNING, "the step, its daemons, and a task", 30)
        cluster.scancel(number)
        cluster.wait_job(number, within_s=60)
        nothing_left(cluster)
    finally:
        configuration.write_text(before)
        cluster.reconfigure()
    ended = summary(cluster)
    assert (ended["outcome"], ended["exit_status"]) == ("terminated", 143), cluster.output(number)
    cause = ended["cause"]
    assert isinstance(cause, dict)
    assert cause["reason"]["word"] == "cancelled", cause
    assert log_of(cluster, "collect").splitlines()[-1] == "collected"
    assert log_of(cluster, "collect").startswith("terminated: stopped by SIGTERM")
    assert {"0: drained 0", "1: drained 1"} <= set(log_of(cluster, "server").splitlines())
    written = (cluster.shared / "out" / "run" / "sflow.log").read_text()
    assert "Slurm ends the job within 8 s" in written or "Slurm ends the job probably within 30 s" in written


def test_n4_processes_of_a_live_runs_step_are_no_leftovers(cluster: Cluster) -> None:
    """They are below no agent, and some have no environment."""
    number = submit(cluster, SERVER + KEEP)
    wait_until(lambda: daemons(cluster) == RUNNING, "the step, its daemons, and a task", 30)
    words = [*SFLOW_CTL.split(), "doctor", "--jobid", str(number)]
    done = cluster.run_in_node(HEAD_NODE, words)
    assert lines_with(done.stdout, "ok", "leftovers", "beside 1 live run of yours"), done.stdout
    assert not lines_with(done.stdout, "warn", "leftovers"), done.stdout
