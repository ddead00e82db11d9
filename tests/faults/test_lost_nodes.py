"""Nodes that are lost while tasks run: retries elsewhere, never two attempts at once, nothing left of agent and guardian."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.machine.marks import RUN_MARKER
from protocol.machine.procfs import marked
from sflow_ctl.runtime.fleet import leftovers
from tests.integration.agent.without_syscalls import command as command_without
from tests.integration.agent.without_syscalls import is_supported
from tests.support import Run, command, is_alive, nothing_left, parent_of, wait_until

TWO = """version: "0.1"
workflow:
  name: moves
  tasks:
    - name: t
      replicas: {count: 2}
      resources: {nodes: {count: 1}}
      retries: {count: 2, interval: 0}
      script:
        - echo "$SFLOW_ATTEMPT on $SFLOW_TASK_ASSIGNED_NODE_NAMES"
        - for i in $(seq 600); do
        -   echo "$SFLOW_ATTEMPT $$" >> "$SFLOW_TASK_OUTPUT_DIR/beats"
        -   if [ -e "$SFLOW_WORKFLOW_OUTPUT_DIR/go" ]; then exit 0; fi
        -   sleep 0.05
        - done
    - name: after
      depends_on: [t]
      resources: {nodes: {count: 1}}
      script: ['echo "first was on ${{ task.t_0.nodes[0].name }}"']
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Run]]:
    """Runs that a test has started."""
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.kill()


def beats(run: Run, task: str) -> list[tuple[int, int]]:
    """(attempt, pid) for every sign of life of a task, in the order of time."""
    path = run.directory / task / "beats"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(attempt), int(pid)) for attempt, pid in map(str.split, lines)]


def attempts(run: Run, task: str) -> list[int]:
    """The attempts that have shown life, each as often as it came after another one."""
    order: list[int] = []
    for attempt, _ in beats(run, task):
        if not order or order[-1] != attempt:
            order.append(attempt)
    return order


def test_n2_a_static_task_whose_agent_is_killed_runs_on_the_free_node(
    started: list[Run], tmp_path: Path
) -> None:
    run = Run.start(TWO, tmp_path, "--nodes", "3", "--agent-restarts=0")
    started.append(run)
    for task in ("t_0", "t_1"):
        run.wait_for(task, "running")
    os.kill(run.agents()[0], signal.SIGKILL)
    wait_until(lambda: 2 in attempts(run, "t_0"), "the second attempt")
    (run.directory / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    names = [(run.directory / "t_0" / name).read_text() for name in ("t_0.attempt-1.log", "t_0.log")]
    first, second = (text.split()[-1] for text in names)
    assert first != second
    assert second != (run.directory / "t_1" / "t_1.log").read_text().split()[-1]  # the free one
    assert f"first was on {second}" in output
    nothing_left(run)


def test_r10_an_agent_that_is_stopped_does_not_keep_a_second_attempt_company(
    started: list[Run], tmp_path: Path
) -> None:
    run = Run.start(TWO, tmp_path, "--nodes", "3", "--lost-after", "2", "--orphan-grace", "2")
    started.append(run)
    run.wait_for("t_0", "running")
    agent, first = run.agents()[0], run.pid_of("t_0")
    os.kill(agent, signal.SIGSTOP)
    wait_until(lambda: 2 in attempts(run, "t_0"), "the second attempt", 40)
    assert not is_alive(first)
    (run.directory / "go").touch()
    status, output = run.finish()
    assert status == 0, output
    assert attempts(run, "t_0") == [1, 2]
    nothing_left(run)


STRAY = """version: "0.1"
workflow:
  name: stray
  tasks:
    - name: t
      on_node_lost: fail
      script:
        - env -i setsid sh -c 'echo $$ > "$0"; sleep 600' "$SFLOW_WORKFLOW_OUTPUT_DIR/stray" &
        - sleep 600
"""


def test_n4_what_agent_and_guardian_leave_when_both_are_killed_is_ended(
    started: list[Run], tmp_path: Path
) -> None:
    run = Run.start(STRAY, tmp_path)
    started.append(run)
    run.wait_for("t", "running")
    path = run.directory / "stray"
    wait_until(lambda: path.exists() and path.read_text(), "the stray process")
    stray = int(path.read_text())
    agent, main = run.agents()[0], run.pid_of("t")
    guardian = parent_of(agent)
    for pid in (guardian, agent):
        os.kill(pid, signal.SIGSTOP)  # so that neither sees the end of the other
    for pid in (guardian, agent):
        os.kill(pid, signal.SIGKILL)
    status, output = run.finish()
    assert status == 1, output
    assert "killed by SIGKILL" in output
    assert not is_alive(main)
    assert not is_alive(stray)
    nothing_left(run)


def test_n4_a_guardian_killed_alone_leaves_the_stopping_to_its_agent(
    started: list[Run], tmp_path: Path
) -> None:
    workflow = STRAY.replace(
        "- sleep 600", "- trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    )
    run = Run.start(workflow, tmp_path)
    started.append(run)
    run.wait_for("t", "running")
    log = run.directory / "t" / "t.log"
    wait_until(lambda: log.exists() and "up\n" in log.read_text(), "the trap is set")
    os.kill(parent_of(run.agents()[0]), signal.SIGKILL)
    run.finish()
    assert "told\n" in log.read_text()
    nothing_left(run)


def test_n4_other_children_of_the_controller_are_left_alone(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys, time\n"
        "from protocol.machine.prctl import adopt_orphans\n"
        "from sflow_ctl.runtime.fleet.leftovers import sweep\n"
        "adopt_orphans()\n"
        "own = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "subprocess.run(['sh', '-c', 'setsid sleep 61 & echo'], stdout=subprocess.DEVNULL)\n"
        "assert sweep('no-such-run') == []\n"
        "assert own.poll() is None\n"
        "left = open(f'/proc/self/task/{os.getpid()}/children').read().split()\n"
        "assert len(left) == 2, left\n"
        "for pid in left: os.kill(int(pid), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_public_25_a_whole_run_works_without_pidfd_and_memfd(tmp_path: Path, error: str) -> None:
    if not is_supported():
        pytest.skip("system calls of this machine are not known here")
    workflow = tmp_path / "w.yaml"
    workflow.write_text('version: "0.1"\nworkflow: {name: w, tasks: [{name: t, script: ["echo done"]}]}\n')
    without = command_without(error, "pidfd_open", "memfd_create")
    done = subprocess.run(
        [*without, *command("run", workflow)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[t] done" in done.stdout


def test_public_n2_a_process_that_may_not_be_signalled_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    with subprocess.Popen(["sleep", "60"], env={RUN_MARKER: "a-run"}) as process:
        wait_until(lambda: marked(RUN_MARKER, "a-run"), "its environment")
        with monkeypatch.context() as patch:
            patch.setattr(leftovers, "VERIFY_S", 0.1)
            patch.setattr(os, "kill", refuse)
            assert leftovers.sweep("a-run") == [f"{process.pid} sleep"]
        assert leftovers.sweep("a-run") == []


def test_clusters_minor_a_node_that_is_silent_and_returns_is_said_on_the_console(tmp_path: Path) -> None:
    go = tmp_path / "go"
    workflow = f"""
version: "0.1"
workflow: {{name: w, tasks: [{{name: t, script: ["until test -e {go}; do sleep 0.1; done"]}}]}}
"""
    run = Run.start(workflow, tmp_path)
    try:
        run.wait_for("t", "running")
        (agent,) = run.agents()
        os.kill(agent, signal.SIGSTOP)
        log = run.directory / "sflow.log"
        wait_until(lambda: "has not been heard of for 1" in log.read_text(), "its silence is said", 40)
        os.kill(agent, signal.SIGCONT)
        wait_until(lambda: "is heard of again" in log.read_text(), "its return is said")
        go.touch()
        status, output = run.finish()
    finally:
        run.kill()
    assert status == 0, output
    assert "warning: node localhost has not been heard of for 1" in output
    assert "it is given up after 30 s" in output
