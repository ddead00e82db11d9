"""File systems that do not answer, and processes that are stopped: each is said, and none of them is a node's death.

The file system is a real one, of a daemon that is stopped: `tests/stalling_fs.py`.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.machine.procfs import is_in_exec
from protocol.messages.facts import LaunchFailed, Notice
from tests.integration.agent.conftest import make_controller
from tests.integration.agent.fake_controller import FakeController, is_alive, spec
from tests.stalling_fs import StallingFs, can_mount
from tests.support import Run, both_of, parent_of, wait_until

__all__ = ["make_controller"]
needs_fuse = pytest.mark.skipif(not can_mount(), reason="needs root and /dev/fuse")
LIMITS = ("--lost-after", "4", "--orphan-grace", "3")
"""Shorter than each standstill here."""
STANDS_S = 10.0


@pytest.fixture
def stalling(tmp_path: Path) -> Iterator[StallingFs]:
    """A file system that is unmounted when the test ends."""
    made = StallingFs(tmp_path / "sflow_output", tmp_path / "backing")
    yield made
    made.close()


@pytest.fixture
def make_agent_on(stalling: StallingFs) -> Iterator[Callable[..., FakeController]]:
    """Controllers of agents whose run directory is on the file system."""
    made: list[FakeController] = []

    def make(**arguments: float) -> FakeController:
        made.append(FakeController(stalling.path / "run", **arguments))
        return made[-1].start().welcome()

    yield make
    stalling.resume()
    for controller in made:
        controller.close()


def pass_s(seconds: float) -> None:
    """Let the time go by that a limit must outlast."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, "the time is over", seconds + 30)


# ---------------------------------------------------------------- an agent whose loop stands still


@needs_fuse
def test_r15_an_agent_whose_run_directory_stalls_says_so_and_lives(
    stalling: StallingFs, make_agent_on: Callable[..., FakeController]
) -> None:
    controller = make_agent_on(orphan_grace_s=2.0)
    stalling.stall()
    controller.spawn(spec("a", "echo", "hello"))
    until = time.monotonic() + STANDS_S
    controller.until(lambda: time.monotonic() > until, "the time", STANDS_S + 10)
    seconds, doing = controller.standstills[-1]
    assert seconds > STANDS_S - 3
    assert doing.startswith(f"open_file of {stalling.path}/run/a/a.log (log_file.py:"), doing
    assert is_alive(controller.agent), "its guardian has seen that it hears of its controller"
    assert len(controller.hellos) == 1
    stalling.resume()
    assert controller.exited("a").exit_code == 0
    assert controller.log("a") == "hello\n"
    said = len(controller.standstills)
    controller.spawn(spec("b", "true"))
    assert controller.exited("b").exit_code == 0
    assert len(controller.standstills) == said, "a loop that moves speaks for itself"


@needs_fuse
def test_an_agent_that_stands_still_without_a_controller_ends_with_its_tasks(
    stalling: StallingFs, make_agent_on: Callable[..., FakeController]
) -> None:
    controller = make_agent_on(orphan_grace_s=2.0)
    controller.spawn(spec("a", "sleep", "60"))
    pid = controller.started("a").pid
    stalling.stall()
    controller.spawn(spec("b", "true"))
    controller.until(lambda: controller.standstills, "the standstill")
    controller.is_mute = True
    wait_until(lambda: not is_alive(pid), "the guardian ends the tasks", 20)


def test_a_hanging_interpreter_is_silent(make_controller: Callable[..., FakeController]) -> None:
    """Only what a person or the kernel does to the whole process keeps the thread from speaking."""
    controller = make_controller().start().welcome()
    os.kill(controller.agent, signal.SIGSTOP)
    until = time.monotonic() + 3
    controller.until(lambda: time.monotonic() > until, "the time")
    assert not controller.standstills
    os.kill(controller.agent, signal.SIGCONT)


@needs_fuse
def test_a_process_that_stands_still_in_execve_holds_up_none_that_looks_at_it(stalling: StallingFs) -> None:
    """An agent looks at all that its tasks have started."""
    opens_and_executes = (
        "import os, sys; os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT); print(flush=True); "
        "sys.stdin.readline(); os.execv('/bin/true', ['true'])"
    )
    command = [sys.executable, "-c", opens_and_executes, str(stalling.path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        stalling.stall()
        child.stdin.write(b"\n")
        child.stdin.close()
        wait_until(lambda: is_in_exec(child.pid), "it stands still in execve")
        looks = (
            "import sys; from protocol.machine import procfs; "
            "p = int(sys.argv[1]); print(procfs.is_living(p), procfs.environment(p), procfs.start_ticks(p), "
            "procfs.is_being_killed(p), procfs.has_socket(p, [1]), p in procfs.descendants(procfs.parent_of(p)))"
        )
        seen = subprocess.run(
            [sys.executable, "-c", looks, str(child.pid)],
            capture_output=True,
            timeout=30,
            text=True,
            check=True,
        )
        assert seen.stdout == "True [b''] None False False True\n"
        stalling.resume()
        assert child.wait(30) == 0


# ---------------------------------------------------------------- a task's own directories


@needs_fuse
def test_r15_a_task_whose_directory_stalls_waits_and_no_other_does(
    stalling: StallingFs, make_controller: Callable[..., FakeController]
) -> None:
    controller = make_controller().start().welcome()
    stalling.stall()
    try:
        controller.spawn(
            spec("a", "pwd", cwd=str(stalling.path)),
            spec("b", "sh", "-c", "echo b"),
            spec("c", "pwd", cwd=str(stalling.path)),
            spec("d", str(stalling.path / "program")),
        )
        assert controller.exited("b").exit_code == 0
        controller.until(lambda: len(controller.said(Notice)) == 3, "the notices", 15)
        assert (
            f"{stalling.path} has not answered for 5 s: its start waits for it"
            in controller.said(Notice)[0].text
        )
        controller.stop("c")
        controller.until(lambda: controller.said(LaunchFailed), "the stop of c")
        (failed,) = controller.said(LaunchFailed)
        assert failed.rank.attempt.task == "c"
        assert failed.reason == f"it was stopped before it began: {stalling.path} had not answered"
        assert not controller.standstills
    finally:
        stalling.resume()
    assert controller.exited("a").exit_code == 0
    assert controller.log("a") == f"{stalling.path}\n"
    controller.until(lambda: len(controller.said(LaunchFailed)) == 2, "the failure of d")
    assert "does not exist on this node" in controller.said(LaunchFailed)[1].reason
    assert controller.leave() == 0


@needs_fuse
def test_an_agent_ends_although_the_directory_of_a_task_stalls(
    stalling: StallingFs, make_controller: Callable[..., FakeController]
) -> None:
    controller = make_controller().start().welcome()
    stalling.stall()
    try:
        controller.spawn(spec("a", "pwd", cwd=str(stalling.path)), spec("b", "true"))
        assert controller.exited("b").exit_code == 0
        assert controller.leave() == 0
        assert [fact.rank.attempt.task for fact in controller.said(LaunchFailed)] == ["a"]
    finally:
        stalling.resume()


# ---------------------------------------------------------------- runs


@needs_fuse
def test_r15_a_run_whose_directory_stalls_waits_and_completes(stalling: StallingFs, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo before; until [ -e {go} ]; do sleep 0.1; done; echo after"
    run = start(tmp_path, script)
    run.wait_for("t", "running")
    stalling.stall()
    go.touch()
    pass_s(STANDS_S)
    assert run.process.poll() is None
    stalling.resume()
    status, output = finish(run)
    assert status == 0, output
    assert re.search(r"the run directory has not answered for 5 s.*: waiting", output), output
    assert "the controller moves again; it had stood still for" in output
    assert "lost" not in output
    assert (run.directory / "t/t.log").read_text() == "before\nafter\n"


@pytest.mark.parametrize("who", ["agent", "controller", "both"], ids=lambda who: f"{who}_stopped")
def test_r13_processes_that_are_stopped_for_longer_than_all_limits_continue(who: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    limits = ("--lost-after", "60", "--orphan-grace", "3") if who == "agent" else LIMITS
    # The time in which one of them is stopped does not count against a task's limit, also if that ends meanwhile.
    run = start(
        tmp_path, f"until [ -e {go} ]; do sleep 0.1; done; echo done", limits=limits, more=", timeout: 8"
    )
    run.wait_for("t", "running")
    (agent,) = run.agents()
    stopped = [agent, parent_of(agent)] if who != "controller" else []
    stopped += both_of(run.process.pid) if who != "agent" else []
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    pass_s(STANDS_S)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    go.touch()
    status, output = finish(run)
    assert status == 0, output
    assert "lost" not in output
    assert (run.directory / "t/t.log").read_text() == "done\n"
    journal = (run.directory / ".sflow/events.jsonl").read_text()
    assert ("agent_suspended" in journal) == (who != "controller")


def test_p5_a_task_is_ended_by_its_timeout_when_an_agent_that_was_stopped_runs_again(tmp_path: Path) -> None:
    run = start(tmp_path, "exec sleep 60", limits=("--lost-after", "60"), more=", timeout: 6")
    run.wait_for("t", "running")
    (agent,) = run.agents()
    for pid in (agent, parent_of(agent)):
        os.kill(pid, signal.SIGSTOP)
    pass_s(STANDS_S)
    for pid in (agent, parent_of(agent)):
        os.kill(pid, signal.SIGCONT)
    status, output = finish(run)
    assert (status, "did not end within its timeout of 6 s" in output) == (1, True), output
    journal = (run.directory / ".sflow/events.jsonl").read_text()
    kinds = re.findall(r'"type":"(agent_suspended|life_confirmed)"', journal)
    assert kinds == ["agent_suspended", "life_confirmed", "life_confirmed"], (
        "the first answer is not to the moved limit"
    )


def test_an_agent_that_is_stopped_for_longer_than_its_controller_waits_is_lost(tmp_path: Path) -> None:
    run = start(tmp_path, "sleep 60")
    run.wait_for("t", "running")
    (agent,) = run.agents()
    for pid in (agent, parent_of(agent)):
        os.kill(pid, signal.SIGSTOP)
    status, output = finish(run)
    assert status == 1, output
    assert "task t: node localhost was lost: silent for " in output


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[StallingFs]:
    """A file system of the user's, beside the run."""
    made = StallingFs(tmp_path / "mnt", tmp_path / "backing")
    yield made
    made.close()


@needs_fuse
def test_r15_a_run_is_stopped_although_its_tasks_wait_for_a_file_system(
    mount: StallingFs, tmp_path: Path
) -> None:
    (mount.path / "file").write_text("content")
    text = f"""
version: "0.1"
workflow:
  name: w
  tasks:
    - {{name: reads, script: ["cat {mount.path}/file; sleep 60"]}}
    - {{name: other, script: [echo done]}}
"""
    mount.stall()
    run = Run.start(text, tmp_path, *LIMITS)
    run.wait_for("other", "completed")
    run.wait_for("reads", "running")
    run.process.send_signal(signal.SIGINT)
    status, output = finish(run)
    assert status == 130, output
    assert "lost" not in output


@needs_fuse
def test_r15_required_files_that_do_not_answer_cost_their_own_task(mount: StallingFs, tmp_path: Path) -> None:
    tasks = "".join(
        f"    - {{name: t{i}, script: [echo {i}], success: {{files: [{{path: {mount.path}/out-{i}}}]}}}}\n"
        for i in range(4)
    )
    good = tmp_path / "good"
    good.write_text("x")
    text = f"""
version: "0.1"
workflow:
  name: w
  on_failure: continue
  tasks:
{tasks}    - {{name: good, script: [sleep 2], success: {{files: [{{path: {good}}}]}}}}
"""
    mount.stall()
    run = Run.start(text, tmp_path, *LIMITS)
    run.wait_for("good", "completed", 30)
    assert all(state != "completed" for task, state in run.states().items() if task != "good")
    mount.resume()
    status, output = finish(run)
    assert status == 0, output
    assert "── t0 failed (no_output): there is no " in output
    assert "lost" not in output


def test_r17_a_pattern_that_takes_for_ever_costs_its_task_a_message(tmp_path: Path) -> None:
    text = """
version: "0.1"
workflow:
  name: w
  tasks:
    - name: server
      script: ["head -c 60000 /dev/zero | tr '\\\\0' a; echo '!'; echo ready; sleep 60"]
      probes: {readiness: {timeout: 60, log_watch: {regex_pattern: "re:^(a+)+$(?!x)|^rea(?=dy)"}}}
    - {name: client, script: [echo done], depends_on: [server]}
"""
    run = Run.start(text, tmp_path, *LIMITS)
    status, output = finish(run)
    assert status == 0, output
    assert "takes too long on a line: write it without nested or neighbouring repetitions" in output
    assert "lost" not in output


def start(
    directory: Path,
    script: str,
    limits: tuple[str, ...] = LIMITS,
    more: str = "",
) -> Run:
    """A run of one task `t`."""
    text = f'version: "0.1"\nworkflow:\n  name: w\n  tasks:\n    - {{name: t, script: ["{script}"]{more}}}\n'
    return Run.start(text, directory, *limits)


def finish(run: Run) -> tuple[int, str]:
    """Return (exit status, output)."""
    output, _ = run.process.communicate(timeout=60)
    return run.process.returncode, output
