"""What a run leaves when controller, agent and guardian are killed at once, and how it is found and ended later: N4."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.machine.procfs import (
    command_line,
    descendants,
    environment,
    is_living,
    read_status,
    run_processes,
    session_of,
)
from sflow_agent.guarding.keeper import NAME
from sflow_agent.limits import run_mark
from tests.support import Run, both_of, kill_at_once, lines_with, sflow_ctl, wait_until

TASK = (
    'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n    - name: t\n      script:\n'
    "        - 'env -i setsid -f sleep 7787 > /dev/null 2>&1 < /dev/null'\n"
    "        - 'exec sleep 7788'\n"
)


def sleeping(seconds: str) -> list[int]:
    """Return the living processes of tasks that sleep for so long."""
    return [pid for pid in run_processes() if command_line(pid)[:2] == [b"sleep", seconds.encode()]]


def agents_of(run: Run) -> list[int]:
    """Return the pids of the guardian and of the agent."""
    guardian, agent = (pid for pid in descendants(run.process.pid) if b"sflow_agent" in command_line(pid))
    return [guardian, agent]


def keeper_of(run: Run) -> int:
    """Return the pid of the process that ends what all others have left."""
    guardian, _ = agents_of(run)
    (keeper,) = (pid for pid in descendants(guardian) if command_line(pid)[0] == NAME.encode())
    return keeper


@pytest.fixture
def abandoned(tmp_path: Path) -> Iterator[Run]:
    """A run of which only the task's own processes are left: one of them has no environment."""
    run = Run.start(TASK, tmp_path)
    wait_until(lambda: sleeping("7787") and sleeping("7788"), "the task runs")
    ours = [*agents_of(run), keeper_of(run)]
    kill_at_once([*both_of(run.process.pid), *ours])
    run.process.communicate()
    wait_until(lambda: not any(map(is_living, ours)), "all of ours are gone")
    yield run
    for pid in (*sleeping("7787"), *sleeping("7788")):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 1, 0, 3)])
def test_n4_a_run_whose_controller_agent_and_guardian_are_killed(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    run = Run.start(TASK, tmp_path)
    wait_until(lambda: sleeping("7787") and sleeping("7788"), "the task runs")
    keeper = keeper_of(run)
    ours = [*both_of(run.process.pid), *agents_of(run)]
    kill_at_once([ours[number] for number in order])
    run.process.communicate()
    wait_until(lambda: not sleeping("7787") and not sleeping("7788"), "the task's processes are gone", 10)
    wait_until(lambda: not is_living(keeper), "nothing of ours waits for anything")


def test_n4_what_kills_ours_by_name_or_session_spares_the_keeper(tmp_path: Path) -> None:
    run = Run.start(TASK, tmp_path)
    wait_until(lambda: sleeping("7787") and sleeping("7788"), "the task runs")
    keeper = keeper_of(run)
    guardian, _ = agents_of(run)
    status = read_status(keeper)
    assert status is not None
    assert status.name == NAME
    assert session_of(keeper) == keeper != guardian
    assert b"".join(command_line(keeper)) == NAME.encode()
    assert environment(keeper) == [b""] or os.getuid() == 0
    os.killpg(guardian, signal.SIGKILL)
    run.kill()
    wait_until(lambda: not sleeping("7787") and not sleeping("7788"), "the task's processes are gone", 10)


def test_n4_the_keeper_ends_with_its_run(tmp_path: Path) -> None:
    run = Run.start(TASK.replace("exec sleep 7788", "sleep 1"), tmp_path)
    wait_until(lambda: sleeping("7787"), "the task runs")
    keeper = keeper_of(run)
    assert run.finish()[0] == 0
    assert not is_living(keeper)


def test_n4_doctor_finds_processes_that_have_wiped_their_environment(abandoned: Run, tmp_path: Path) -> None:
    left = sorted(sleeping("7787") + sleeping("7788"))
    done = sflow_ctl("doctor", cwd=tmp_path)
    assert len(left) == 2
    assert lines_with(
        done.stdout, "warn", "leftovers", f"2 processes of run {abandoned.directory.name} are left"
    )
    assert lines_with(done.stdout, f"fix: kill {left[0]} {left[1]}")
    os.kill(sleeping("7788")[0], signal.SIGKILL)
    done = sflow_ctl("doctor", cwd=tmp_path)
    assert lines_with(
        done.stdout, "1 process of a run that their environment does not name are left without an agent"
    )


def test_n4_a_resume_ends_processes_that_have_wiped_their_environment(abandoned: Run, tmp_path: Path) -> None:
    assert sleeping("7787")
    (tmp_path / "again.yaml").write_text(TASK.replace("sleep 778", "true 778"))
    done = sflow_ctl("run", "again.yaml", "--resume", abandoned.directory, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not sleeping("7787")
    assert not sleeping("7788")


def test_n4_a_live_run_is_no_leftover_whatever_its_processes_have_wiped(tmp_path: Path) -> None:
    run = Run.start(TASK, tmp_path)
    try:
        wait_until(lambda: sleeping("7787") and sleeping("7788"), "the task runs")
        done = sflow_ctl("doctor", "-v", cwd=tmp_path)
        assert not lines_with(done.stdout, "warn", "leftovers")
        assert lines_with(done.stdout, f"2 processes of run {run.directory.name}, which is live")
    finally:
        run.kill()


PODMAN = """#!/bin/sh
echo "$@" >> CALLS
case "$*" in
  info*) echo 4.3.1;;
  "ps -a --filter label=sflow.user="*) [ -e GONE ] || echo 'sflow-old-1 map[sflow.marker:MARKER sflow.run:old]';;
  "rm -f -v sflow-old-1") touch GONE;;
esac
"""


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine with one container of an earlier run; returns the file with its calls."""
    programs = tmp_path / "bin"
    programs.mkdir()
    text = PODMAN.replace("CALLS", str(tmp_path / "calls")).replace("GONE", str(tmp_path / "gone"))
    (programs / "podman").write_text(text.replace("MARKER", "old-0123abcd"))
    (programs / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return tmp_path / "calls"


def test_n4_doctor_finds_containers_by_their_label(podman: Path, tmp_path: Path) -> None:
    done = sflow_ctl("doctor", cwd=tmp_path)
    assert lines_with(done.stdout, "warn", "leftovers", "1 container of run old are left without an agent")
    assert lines_with(done.stdout, "fix: podman rm -f sflow-old-1")
    assert "ps -a --filter label=sflow.user=" in podman.read_text()


def test_n4_a_sweep_of_a_node_removes_the_containers_of_its_run_only(podman: Path, tmp_path: Path) -> None:
    sweep = [sys.executable, "-I", "-m", "sflow_agent.processes.predecessors"]
    for marker, gone in (("other-0123abcd", False), ("old-0123abcd", True)):
        done = subprocess.run([*sweep, marker], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (tmp_path / "gone").exists() == gone


def test_n4_a_sweep_leaves_a_living_agent_to_itself(tmp_path: Path) -> None:
    run = Run.start(TASK, tmp_path)
    try:
        wait_until(lambda: sleeping("7787") and sleeping("7788"), "the task runs")
        marker = marker_of(sleeping("7788")[0])
        assert run_mark(marker) in run_processes().values()
        done = subprocess.run(
            [sys.executable, "-I", "-m", "sflow_agent.processes.predecessors", marker],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 3, done.stdout + done.stderr
        assert len(sleeping("7788")) == len(sleeping("7787")) == 1
    finally:
        run.kill()


def marker_of(pid: int) -> str:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(one.partition(b"=")[2].decode() for one in variables if one.startswith(b"SFLOW_RUN_MARKER="))
