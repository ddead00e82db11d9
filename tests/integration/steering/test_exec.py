"""`exec`: a command beside a live task, with and without a terminal; nothing of it is left behind."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.machine.procfs import all_processes, command_line
from tests.support import PATIENCE_S, Run, command, sflow_ctl, wait_until

WORKFLOW = """version: "0.1"
workflow:
  name: w
  tasks:
    - {name: a, script: ["cd /usr; touch $SFLOW_TASK_OUTPUT_DIR/up; sleep 600; true"], replicas: {count: 2}}
    - {name: b, script: ["true"]}
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with two replicas of a task."""
    run = Run.start(WORKFLOW, tmp_path_factory.mktemp("exec"), run_id="live")
    try:
        for replica in (0, 1):
            run.wait_for(f"a_{replica}", "running")
            wait_until((run.directory / f"a_{replica}/up").exists, "it is in its directory")
        run.wait_for("b", "completed")
        yield run
    finally:
        run.kill()


def place(run: Run) -> Path:
    return run.directory.parent.parent


def sleepers(seconds: int) -> list[int]:
    wanted = [b"sleep", str(seconds).encode()]
    return [pid for pid in all_processes() if [one for one in command_line(pid) if one] == wanted]


def test_a_command_has_the_tasks_environment_and_directory(live: Run) -> None:
    done = sflow_ctl("exec", "a[1]", "--", "sh", "-c", "echo $SFLOW_TASK_NAME; pwd; exit 7", cwd=place(live))
    assert (done.returncode, done.stdout) == (7, "a_1\n/usr\n"), done.stderr
    done = sflow_ctl("exec", "live", "a_0", "--", "no-such-program", cwd=place(live))
    assert (done.returncode, done.stderr) == (
        127,
        "sflow-ctl exec: no-such-program: No such file or directory\n",
    )
    done = sflow_ctl("exec", "a_0", "--", "sh", "-c", "kill -TERM $$", cwd=place(live))
    assert done.returncode == 143


def test_what_cannot_be_entered_is_said(live: Run) -> None:
    done = sflow_ctl("exec", "a", "--", "true", cwd=place(live))
    assert done.returncode == 2
    assert "error[one-task]: exec needs one running task" in done.stderr
    assert "hint:  named are: a_0, a_1" in done.stderr
    assert "error[not-running]: b does not run" in sflow_ctl("exec", "b", cwd=place(live)).stderr
    done = sflow_ctl("exec", "a_0", "--rank", "3", cwd=place(live))
    assert "error[no-such-rank]: a_0#1 has no process 3" in done.stderr


def test_without_a_command_it_is_a_shell_with_the_terminal(live: Run) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    shell = subprocess.Popen(
        command("exec", "a_0"),
        cwd=place(live),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=own_terminal,
    )
    os.close(slave)
    os.set_blocking(master, False)
    shown = ""

    def shows(text: str) -> bool:
        nonlocal shown
        try:
            shown += os.read(master, 65536).decode()
        except OSError:
            time.sleep(0.01)
        return text in shown

    try:
        os.write(master, b"stty size; echo in=$SFLOW_TASK_NAME\n")
        wait_until(lambda: shows("in=a_0"), "the shell answers")
        assert "33 111" in shown
        os.write(master, b"sleep 4711\n")
        wait_until(lambda: sleepers(4711), "the command runs")
        os.write(master, b"\x03")
        wait_until(lambda: not sleepers(4711), "Ctrl-C went to the command")
        os.write(master, b"echo still=$((40 + 2)); exit 5\n")
        wait_until(lambda: shows("still=42"), "the shell is there")
        assert shell.wait(PATIENCE_S) == 5
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_behind_when_the_client_is_killed(live: Run, number: int) -> None:
    script = "trap '' TERM HUP; sleep 4712 & setsid sleep 4713 & sleep 4714"
    client = subprocess.Popen(command("exec", "a_0", "--", "sh", "-c", script), cwd=place(live))
    wait_until(lambda: all(map(sleepers, (4712, 4713, 4714))), "they run")
    client.send_signal(number)
    client.wait(PATIENCE_S)
    wait_until(lambda: not any(map(sleepers, (4712, 4713, 4714))), "all are gone", 15)
    assert live.states()["a_0"] == "running"


def test_a_command_ends_with_its_task(live: Run) -> None:
    client = subprocess.Popen(
        command("exec", "a_1", "--", "sleep", "4715"), cwd=place(live), stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: sleepers(4715), "it runs")
    assert sflow_ctl("stop", "a_1", cwd=place(live)).returncode == 0
    assert client.communicate(timeout=PATIENCE_S)[1] == "run live:\nsflow-ctl exec: the task has ended\n"
    assert client.returncode == 129
    assert not sleepers(4715)
