"""Spare nodes: agents that are killed, whose tasks move to a spare node with their ports, and whose dependants follow."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fake_slurm import FakeSlurm
from tests.faults.test_slurm_launch import finish, log, start
from tests.support import Run, nothing_left, parent_of, wait_until

SERVING = """version: "0.1"
backends: {pool: {type: local, nodes: 3, gpus_per_node: 2, spares: 1}}
workflow:
  name: spare
  tasks:
    - name: server
      resources: {nodes: 1, gpus: 2}
      ports: {http: 1}
      probes: {readiness: {tcp_port: {port: "${{ port.http }}"}, interval: 1}}
      restart: {policy: on_failure, dependents: restart, backoff: 0.1}
      script:
        - echo "attempt $SFLOW_ATTEMPT on $SFLOW_TASK_NODE_NAME gpus $CUDA_VISIBLE_DEVICES"
        - exec python3 -S -m http.server "$SFLOW_PORT_HTTP"
    - name: client
      depends_on: [server]
      resources: {nodes: {indices: [1]}}
      script:
        - echo "attempt $SFLOW_ATTEMPT uses ${{ task.server.nodes[0].name }}"
        - until [ -e "$SFLOW_WORKFLOW_OUTPUT_DIR/go" ]; do sleep 0.05; done
"""


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Runs that a test has started."""
    started: list[Run] = []
    yield started
    for run in started:
        run.kill()


def test_a_service_moves_to_the_spare_node_when_its_agent_is_killed(runs: list[Run], tmp_path: Path) -> None:
    run = Run.start(SERVING, tmp_path, "--simulate-gpus", "--agent-restarts=0")
    runs.append(run)
    run.wait_for("client", "running")
    wait_until(lambda: len(run.agents()) == 3, "all agents have joined")
    os.kill(run.agents()[0], signal.SIGKILL)
    log = run.directory / "client" / "client.log"
    wait_until(lambda: log.exists() and "attempt 2" in log.read_text(), "the client runs again")
    (run.directory / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    assert "localhost-2 takes the place of localhost; no spare node is left" in output
    assert "attempt 2 uses localhost-2" in log.read_text()
    served = (run.directory / "server" / "server.log").read_text()
    assert re.search(r"attempt 2 on localhost-2 gpus \d,\d", served), served
    moved = {task.name: task.moved_from for task in run.summary().tasks}
    assert moved == {"server": ("localhost",), "client": ()}
    nothing_left(run)


def test_a_spare_node_takes_the_place_of_an_agent_killed_with_its_guardian(
    runs: list[Run], tmp_path: Path
) -> None:
    run = Run.start(
        SERVING, tmp_path, "--simulate-gpus", "--agent-restarts=0", "--lost-after", "3", "--orphan-grace", "2"
    )
    runs.append(run)
    run.wait_for("client", "running")
    wait_until(lambda: len(run.agents()) == 3, "all agents have joined")
    agent = run.agents()[0]
    server = run.pid_of("server")
    for pid in (parent_of(agent), agent):
        os.kill(pid, signal.SIGKILL)
    log = run.directory / "client" / "client.log"
    wait_until(lambda: log.exists() and "attempt 2" in log.read_text(), "the client runs again")
    assert not Path(f"/proc/{server}").exists(), "the first server lives beside the second"
    (run.directory / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    nothing_left(run)


def test_fail_ends_the_run_though_a_spare_node_is_there(runs: list[Run], tmp_path: Path) -> None:
    text = SERVING.replace("    - name: server\n", "    - name: server\n      on_node_lost: fail\n")
    run = Run.start(text, tmp_path, "--simulate-gpus", "--agent-restarts=0")
    runs.append(run)
    run.wait_for("client", "running")
    wait_until(lambda: len(run.agents()) == 3, "all agents have joined")
    os.kill(run.agents()[0], signal.SIGKILL)
    status, output = run.finish()
    assert status == 1, output
    assert "node localhost was lost" in output
    nothing_left(run)


def test_a_spare_node_takes_the_place_of_one_whose_agent_slurm_never_starts(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path, nodes=("node0", "node1", "node2"), skips=("node1",))
    tasks = "    - {name: t, replicas: {count: 2}, resources: {nodes: {count: 1}}, script: ['echo $SFLOW_TASK_NODE_NAME']}\n"
    slurm.spares = 1
    status, output = finish(start(slurm, tasks, "--join-within", "4"))
    assert status == 0, output
    assert "node2 takes the place of node1; no spare node is left" in output
    assert {log(slurm, "t_0"), log(slurm, "t_1")} == {"node0\n", "node2\n"}
