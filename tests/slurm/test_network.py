"""Runs in real jobs on networks, names and directories that are not as one would wish: F12, F13, F17, F19, F57."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.slurm.rig import Cluster
from tests.slurm.runs import SFLOW_CTL, fresh, ours_left, summary
from tests.slurm.settings import HEAD, address
from tests.slurm.test_runs import submit, workflow
from tests.support import lines_with, wait_until

pytestmark = pytest.mark.slurm
__all__ = ["fresh"]

WAITS = (
    "    - {name: t, operator: one, script: ['echo up; until [ -e GO ]; do sleep 0.1; done; echo done']}\n"
)


def waiting(cluster: Cluster) -> tuple[str, Path]:
    """Return a task that waits for a file, and the file."""
    go = cluster.shared / "go"
    go.unlink(missing_ok=True)
    return WAITS.replace("GO", str(go)), go


def sflow_log(cluster: Cluster) -> str:
    """Return the controller's log."""
    return (cluster.shared / "out" / "run" / "sflow.log").read_text()


def test_f12_a_black_hole_that_is_listed_first_delays_no_agent(cluster: Cluster) -> None:
    for node in cluster.nodes[:2]:
        cluster.add_black_hole_address(node)
    tasks = "    - {name: t, operator: one, script: ['echo ${{ backends.pool.nodes[0].ip_address }}']}\n"
    path = workflow(cluster, tasks, nodes=2)
    run = f"{SFLOW_CTL} run {path} --output-dir {cluster.shared}/out --run-id run"
    number = cluster.sbatch(f"date +%s.%N; {run}", nodes=2, gres="gpu:4", nodelist="node0,node1")
    job = cluster.wait_job(number, within_s=60)
    printed = cluster.output(number)
    assert job.state == "COMPLETED", printed
    (line,) = lines_with(sflow_log(cluster), "node node1: agent ")
    assert f" joined from {address('node1')} by tcp://{address('node0')}:" in line
    # The controller's own node reaches the black hole, which is itself; what others are told is what others reach.
    log = cluster.shared / "out" / "run" / "t" / "t.log"
    assert log.read_text() == f"{address('node0')}\n"
    began = float(printed.split()[0])
    journal = (cluster.shared / "out" / "run" / ".sflow/events.jsonl").read_text().splitlines()
    first = min(json.loads(line)["wall_ns"] for line in journal) / 1e9
    assert first - began < 5.0, "an address that is tried alone, and given up, takes that long"


@pytest.mark.parametrize("names", ["127.0.1.1 node0 node1", ""])
def test_f13_host_names_need_not_resolve(cluster: Cluster, names: str) -> None:
    hosts = cluster.shared / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{names}\n")
    both = cluster.nodes[:2]
    for node in both:
        assert cluster.run_in_node(node, ["mount", "--bind", hosts, "/etc/hosts"]).returncode == 0
    try:
        seen = cluster.run_in_node("node1", ["getent", "ahosts", "node1"]).stdout.split()
        assert ("127.0.1.1" in seen) if names else not seen
        tasks = "    - {name: t, script: ['echo ${{ task.t.nodes[0].ip_address }} ${{ task.t.nodes[1].ip_address }}']}\n"
        number = submit(cluster, tasks, nodes=2, nodelist="node0,node1")
        job = cluster.wait_job(number, within_s=60)
        assert job.state == "COMPLETED", cluster.output(number)
    finally:
        for node in both:
            cluster.run_in_node(node, ["umount", "/etc/hosts"])
    lines = (cluster.shared / "out" / "run" / "t" / "t.log").read_text().splitlines()
    assert sorted(lines) == [f"{n}: {address('node0')} {address('node1')}" for n in range(2)]


def test_f17_a_run_can_be_looked_at_where_its_controller_cannot_be_reached(cluster: Cluster) -> None:
    tasks, go = waiting(cluster)
    number = submit(cluster, tasks, nodes=2)
    run = cluster.shared / "out" / "run"
    log = run / "t" / "t.log"
    wait_until(lambda: log.exists() and log.read_text() == "up\n", "the task runs", 30)
    ports = re.findall(r":(\d+)\"", (run / ".sflow/connection.json").read_text())
    for port in ports:
        rule = ["INPUT", "-p", "tcp", "--sport", port, "-j", "DROP"]
        assert cluster.run_in_node(HEAD, ["iptables", "-A", *rule]).returncode == 0
    status = cluster.run_in_node(HEAD, [sys.executable, "-m", "sflow_ctl", "status", run])
    assert status.returncode == 0, status.stderr
    assert f"(from {run})" in status.stdout or "(from out/run)" in status.stdout, status.stdout
    assert "is running: controller pid" in status.stdout
    assert lines_with(status.stdout, "t", "running")
    attached = cluster.start_in_node(HEAD, [sys.executable, "-m", "sflow_ctl", "attach", run])
    assert attached.stdout is not None
    shown = ""
    while "[t] up" not in shown:
        line = attached.stdout.readline()
        assert line, shown
        shown += line
    assert "through its files (its controller does not answer)" in shown
    go.touch()
    shown += attached.stdout.read()
    assert attached.wait(30) == 0, shown
    assert "[t] done" in shown, shown
    assert "run: completed" in shown, shown
    assert cluster.wait_job(number, within_s=60).state == "COMPLETED"


def test_f19_lost_packets_and_a_slow_link_do_not_lose_a_node(cluster: Cluster) -> None:
    tasks, go = waiting(cluster)
    later = (
        "    - {name: later, operator: one, depends_on: [t], replicas: {count: 4}, resources: {nodes: {count: 1}}, "
        "script: ['seq 1000; sleep 4; hostname']}\n"
    )
    number = submit(cluster, tasks + later, nodes=2, run="--lost-after 12", nodelist="node0,node1")
    log = cluster.shared / "out" / "run" / "t" / "t.log"
    wait_until(lambda: log.exists() and log.read_text() == "up\n", "the task runs", 30)
    cluster.loss("node0", 20)
    cluster.loss("node1", 20)
    cluster.slow("node1", 2000, 400)
    go.touch()
    ended = cluster.shared / "out" / "run" / ".sflow/summary.json"
    wait_until(ended.exists, "the run ends", 60)
    for node in ("node0", "node1"):
        cluster.heal(node)
    assert summary(cluster)["outcome"] == "completed"
    assert " lost: " not in sflow_log(cluster)
    hosts = [
        (ended.parent.parent / f"later_{n}" / f"later_{n}.log").read_text().splitlines()[-1] for n in range(4)
    ]
    assert set(hosts) == {"node0", "node1"}
    cluster.wait_job(number, within_s=60)


def test_f57_a_run_directory_of_each_nodes_own_is_noticed_and_logs_arrive(cluster: Cluster) -> None:
    own = cluster.directory / "own"
    disks = {node: cluster.make_own_directory(node, own) for node in cluster.nodes[:2]}
    tasks = (
        "    - {name: t, operator: one, replicas: {count: 2}, resources: {nodes: {count: 1}}, "
        "script: ['hostname; seq 30000; sleep 1']}\n"
    )
    path = workflow(cluster, tasks, nodes=2)
    run = f"exec {SFLOW_CTL} run {path} --output-dir {own}/out --run-id run -q"
    number = cluster.sbatch(run, nodes=2, gres="gpu:4", nodelist="node0,node1")
    job = cluster.wait_job(number, within_s=60)
    printed = cluster.output(number)
    assert job.state == "COMPLETED", printed
    (warning,) = lines_with(
        printed, "warning: the run directory is not shared with node1: logs and declared outputs are sent"
    )
    assert "choose an --output-dir that all nodes share" in warning
    assert "node0" not in warning.partition(":")[2].partition(":")[0]
    there = disks["node0"] / "out" / "run"
    numbers = "".join(f"{n}\n" for n in range(1, 30001))
    logs = {(there / f"t_{n}" / f"t_{n}.log").read_text() for n in range(2)}
    assert logs == {f"{node}\n{numbers}" for node in ("node0", "node1")}
    assert not (disks["node1"] / "out").exists()
    assert re.search(r"node node1: .* run directory not shared", (there / "sflow.log").read_text())
    wait_until(lambda: not ours_left(cluster), "nothing is left", 30)
