"""Kills, stops and cuts: no process with the run's marker is left 15 s later, and the end has its cause."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Run, is_alive, lines_with, marked, nothing_left, parent_of, sflow_ctl, wait_until

LONG = """version: "0.1"
workflow:
  name: long
  tasks:
    - name: server
      script:
        - setsid sleep 1000 &
        - (setsid setsid sleep 1000 &)
        - sleep 1000 &
        - echo up
        - wait
      probes: {readiness: {log_watch: {match_pattern: up}}}
    - name: client
      depends_on: [server]
      script: ["sleep 1000"]
"""
TWO_NODES = """version: "0.1"
backends: {pool: {type: local, nodes: 2}}
workflow:
  name: two
  on_node_lost: fail
  tasks:
    - {name: here, resources: {nodes: {indices: [0]}}, script: ["sleep 1000"]}
    - {name: there, resources: {nodes: {indices: [1]}}, script: ["sleep 1000"]}
"""
DEAF = """version: "0.1"
workflow:
  name: deaf
  tasks:
    - name: deaf
      script: ["trap '' TERM INT; echo deaf; while true; do sleep 0.1; done"]
      probes: {readiness: {log_watch: {match_pattern: deaf}}}
    - {name: client, depends_on: [deaf], script: ["sleep 1000"]}
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Run]]:
    """Runs that a test starts; remaining processes are killed by pid."""
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.kill()


def start(
    started: list[Run], tmp_path: Path, workflow: str, *running: str, options: tuple[str, ...] = ()
) -> Run:
    """A run with these tasks running."""
    run = Run.start(workflow, tmp_path, *options)
    started.append(run)
    for task in running:
        run.wait_for(task, "running")
    return run


def test_the_grandchildren_are_there_to_be_found(started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, LONG, "client")
    wait_until(lambda: len(marked(run.run_id, run.directory)) >= 5, "server, its three children, client")
    run.process.send_signal(signal.SIGINT)
    status, _ = run.finish()
    assert status == 130
    assert marked(run.run_id, run.directory) == []


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_f37_a_signal_drains_in_order_and_is_the_status(
    number: signal.Signals, status: int, started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, LONG, "client")
    run.process.send_signal(number)
    assert run.finish()[0] == status
    assert marked(run.run_id, run.directory) == []
    order = [
        e.transition.task for e in run.entries() if e.transition and e.transition.new.value == "cancelled"
    ]
    assert order == ["client", "server"]


def test_f37_a_second_signal_ends_a_deaf_task_at_once(started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, DEAF, "client")
    run.process.send_signal(signal.SIGINT)
    run.wait_for("client", "cancelled")
    run.wait_for("deaf", "stopping")
    run.process.send_signal(signal.SIGINT)
    assert run.finish()[0] == 130
    stops = [e.at for e in run.entries() if e.event is not None and type(e.event).__name__ == "StopRequested"]
    assert len(stops) == 2
    assert marked(run.run_id, run.directory) == []


def test_a_deaf_task_is_killed_after_its_grace(started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, DEAF, "client")
    run.process.send_signal(signal.SIGTERM)
    assert run.finish()[0] == 143
    killed = next(
        e.transition
        for e in run.entries()
        if e.transition and e.transition.task == "deaf" and e.transition.signal
    )
    assert killed.signal == signal.SIGKILL
    assert marked(run.run_id, run.directory) == []


def test_f35_an_agent_that_is_killed_takes_its_tasks_and_fails_the_run(
    started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, TWO_NODES, "here", "there")
    os.kill(run.agents()[1], signal.SIGKILL)
    status, output = run.finish()
    nothing_left(run)
    assert status == 1
    assert lines_with(output, "there", "localhost-1"), output
    assert run.states() == {"here": "cancelled", "there": "lost"}


def test_a_guardian_that_is_killed_ends_its_agent_and_tasks(started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, TWO_NODES, "here", "there")
    agent = run.agents()[1]
    os.kill(parent_of(agent), signal.SIGKILL)
    status, output = run.finish()
    nothing_left(run)
    wait_until(lambda: not is_alive(agent), "the agent has ended")
    assert status == 1
    assert "localhost-1" in output


def test_f32_agent_and_guardian_killed_together_leave_nothing(started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, LONG, "client")
    agent = run.agents()[0]
    guardian = parent_of(agent)
    for pid in (guardian, agent):
        os.kill(pid, signal.SIGKILL)
    status, output = run.finish()
    nothing_left(run)
    assert status == 1
    assert "localhost" in output


def test_f33_a_controller_that_is_killed_leaves_nothing(started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, LONG, "client", options=("--orphan-grace", "3"))
    agent = run.agents()[0]
    run.kill_both()
    nothing_left(run)
    wait_until(lambda: not is_alive(agent), "the agent has ended")


def test_f33_a_run_whose_controller_was_killed_is_resumed(started: list[Run], tmp_path: Path) -> None:
    workflow = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: first, script: ['echo attempt $SFLOW_ATTEMPT']}
    - name: second
      depends_on: [first]
      script: ['echo attempt $SFLOW_ATTEMPT; [ $SFLOW_ATTEMPT = 2 ] || sleep 1000']
"""
    run = start(started, tmp_path, workflow, "second", options=("--orphan-grace", "2"))
    run.kill_both()
    run.process.wait()
    done = sflow_ctl("run", "r.yaml", "--resume", run.directory, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 2 tasks already completed" in done.stdout
    assert (run.directory / "first" / "first.log").read_text() == "attempt 1\n"
    assert (run.directory / "second" / "second.log").read_text() == "attempt 2\n"
    assert (run.directory / "second" / "second.attempt-1.log").read_text() == "attempt 1\n"
    nothing_left(run)


def test_controller_and_agent_killed_together_leave_nothing(started: list[Run], tmp_path: Path) -> None:
    run = start(started, tmp_path, LONG, "client")
    os.kill(run.agents()[0], signal.SIGKILL)
    run.kill_both()
    nothing_left(run)


def test_only_a_setsid_grandchild_survives_its_task_and_not_for_long(
    started: list[Run], tmp_path: Path
) -> None:
    workflow = LONG.replace("- wait", "- sleep 1000")
    run = start(started, tmp_path, workflow, "client")
    main = run.pid_of("server")
    wait_until(lambda: len(marked(run.run_id, run.directory)) >= 5, "all of them")
    grandchild = next(
        pid
        for pid in marked(run.run_id, run.directory)
        if os.getsid(pid) == pid and pid not in (main, run.pid_of("client"))
    )
    for pid in marked(run.run_id, run.directory):
        if pid != grandchild:
            with contextlib.suppress(ProcessLookupError):  # the agent cleans up as soon as the first is gone
                os.kill(pid, signal.SIGKILL)
    status, output = run.finish()
    assert status == 1
    assert not is_alive(grandchild)
    assert "SIGKILL" in output
    nothing_left(run)


def test_an_agent_stopped_for_longer_than_a_heartbeat_continues(started: list[Run], tmp_path: Path) -> None:
    workflow = TWO_NODES.replace('"sleep 1000"', '"sleep 6; echo done"')
    run = start(started, tmp_path, workflow, "here", "there", options=("--orphan-grace", "4"))
    agent = run.agents()[0]
    os.kill(agent, signal.SIGSTOP)
    run.wait_for("there", "completed")
    os.kill(agent, signal.SIGCONT)
    status, output = run.finish()
    assert status == 0, output
    assert run.states() == {"here": "completed", "there": "completed"}
    nothing_left(run)


def test_an_agent_stopped_for_too_long_is_lost_and_nothing_of_it_survives(
    started: list[Run], tmp_path: Path
) -> None:
    run = start(started, tmp_path, TWO_NODES, "here", "there", options=("--lost-after", "3"))
    os.kill(run.agents()[1], signal.SIGSTOP)
    status, output = run.finish()
    nothing_left(run)
    assert status == 1
    assert lines_with(output, "localhost-1", "silent"), output
    assert run.states()["there"] == "lost"


def test_a_failing_task_stops_the_others_and_its_log_is_shown(started: list[Run], tmp_path: Path) -> None:
    workflow = LONG.replace('["sleep 1000"]', '["echo last words; exit 7"]')
    run = start(started, tmp_path, workflow)
    status, output = run.finish()
    assert status == 1
    assert "exit status 7" in output
    assert "    | last words" in output
    assert "client/client.log" in output
    nothing_left(run, within_s=1.0)


def test_a_workflow_past_its_time_ends_with_124(started: list[Run], tmp_path: Path) -> None:
    workflow = LONG.replace("  name: long", "  name: long\n  timeout: 1s")
    run = start(started, tmp_path, workflow)
    status, output = run.finish()
    assert status == 124
    assert "time limit" in output
    nothing_left(run, within_s=1.0)
