"""Agents that are killed and started again on their node, whose tasks follow their policy; and those killed too often."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sflow_ctl.report.summary import Summary
from tests.support import Run, is_alive, lines_with, nothing_left, parent_of, sflow_ctl, wait_until

WORKFLOW = """version: "0.1"
workflow:
  name: w
  tasks:
    - name: server
      kind: service
      restart: {policy: on_failure, max: 5, backoff: 0}
      script: ["echo up; while true; do sleep 0.05; done"]
      probes: {readiness: {log_watch: {match_pattern: up}}}
    - {name: again, retries: 2, script: ["until [ -e $SFLOW_WORKFLOW_OUTPUT_DIR/go ]; do sleep 0.05; done; echo done"]}
    - name: once
      on_failure: continue
      on_node_lost: fail
      script: ["until [ -e $SFLOW_WORKFLOW_OUTPUT_DIR/go ]; do sleep 0.05; done"]
"""
NAMES = ("server", "again", "once")


@pytest.fixture
def started() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.kill()


def start(started: list[Run], cwd: Path, *options: str) -> Run:
    run = Run.start(WORKFLOW, cwd, *options)
    started.append(run)
    run.wait_for("server", "ready")
    for name in ("again", "once"):
        run.wait_for(name, "running")
    return run


def kill_agent(agent: int) -> None:
    os.kill(agent, signal.SIGKILL)


def kill_guardian(agent: int) -> None:
    os.kill(parent_of(agent), signal.SIGKILL)


def kill_both(agent: int) -> None:
    guardian = parent_of(agent)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (guardian, agent):
            os.kill(pid, number)


@pytest.mark.parametrize("kill", [kill_agent, kill_guardian, kill_both])
def test_an_agent_that_died_is_started_again_and_its_tasks_follow_their_policy(
    started: list[Run], tmp_path: Path, kill: Callable[[int], None]
) -> None:
    run = start(started, tmp_path)
    (agent,) = run.agents()
    mains = [run.pid_of(name) for name in NAMES]
    kill(agent)
    wait_until(lambda: run.agents() != [agent], "another agent has joined")
    wait_until(lambda: not any(map(is_alive, mains)), "its processes are gone")
    run.wait_for("server", "ready")
    run.wait_for("again", "running")
    assert run.states()["once"] == "lost"
    (run.directory / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    ended: Summary = run.summary()
    tasks = {task.name: task for task in ended.tasks}
    assert (tasks["again"].state, tasks["again"].attempts) == ("completed", 2)
    assert tasks["once"].reason_word == "agent_died"
    assert "the agent of node localhost " in tasks["once"].reason
    (restart,) = ended.agent_restarts
    assert (restart.node, restart.ended) == ("localhost", "was killed by SIGKILL")
    assert lines_with(output, "agent-died", "localhost", "was killed by SIGKILL"), output
    shown = sflow_ctl("events", run.directory, cwd=tmp_path).stdout
    assert "in place of one that was killed by SIGKILL" in shown
    nothing_left(run)


@pytest.mark.parametrize(("kill", "is_taken_over"), [(kill_agent, False), (kill_both, True)])
def test_an_agent_that_is_killed_too_often_loses_its_node(
    started: list[Run], tmp_path: Path, kill: Callable[[int], None], *, is_taken_over: bool
) -> None:
    """The guardian has started it again; that counts for the controller too, and for the one after it."""
    run = start(started, tmp_path, "--agent-restarts=1")
    (agent,) = run.agents()
    kill_agent(agent)
    wait_until(lambda: run.agents() != [agent], "another agent has joined")
    run.wait_for("server", "ready")
    if is_taken_over:
        os.kill(run.controller, signal.SIGKILL)
        log = run.directory / "sflow.log"
        wait_until(lambda: "took over" in log.read_text(), "another controller has taken over")
    kill(run.agents()[0])
    status, output = run.finish()
    assert status == 1, output
    assert "it was started again 1 time within 10 minutes, and is not again" in output
    assert run.states()["server"] == "lost"
    nothing_left(run)
