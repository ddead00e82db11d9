"""Controllers of Slurm jobs that are stopped by Ctrl-Z or with their machine: agents on other nodes wait for them."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sflow_agent.node.controller_watch import ControllerWatch
from tests.faults.fake_slurm import FakeSlurm
from tests.faults.test_slurm_launch import finish, log, start
from tests.support import controller_of, is_alive, kill_run, wait_until


def test_public_12_agents_of_a_job_wait_for_a_controller_that_is_stopped(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    script = f"echo $$ >> {tmp_path}/pids; until [ -e {tmp_path}/go ]; do sleep 0.1; done; echo done"
    process = start(slurm, f"    - {{name: t, script: ['{script}']}}\n", "--orphan-grace", "3")
    wait_until(lambda: pids(tmp_path) or process.poll() is not None, "the tasks run")
    controller = controller_of(process.pid)
    os.kill(controller, signal.SIGSTOP)
    stopped_until = time.monotonic() + 8.0
    wait_until(lambda: time.monotonic() > stopped_until, "the controller has been stopped for long")
    assert all(is_alive(pid) for pid in pids(tmp_path))
    os.kill(controller, signal.SIGCONT)
    (tmp_path / "go").touch()
    status, output = finish(process)
    assert status == 0, output
    assert sorted(log(slurm).splitlines()) == ["0: done", "1: done"]


def test_public_12_agents_of_a_job_do_not_wait_for_one_that_is_killed_while_stopped(tmp_path: Path) -> None:
    slurm = FakeSlurm(tmp_path)
    script = f"echo $$ >> {tmp_path}/pids; exec sleep 60"
    process = start(slurm, f"    - {{name: t, script: ['{script}']}}\n", "--orphan-grace", "3")
    wait_until(lambda: pids(tmp_path) or process.poll() is not None, "the tasks run")
    controller = controller_of(process.pid)
    os.kill(controller, signal.SIGSTOP)
    stopped_until = time.monotonic() + 4.0
    wait_until(lambda: time.monotonic() > stopped_until, "the controller has been stopped for long")
    tasks = pids(tmp_path)
    assert all(is_alive(pid) for pid in tasks)
    kill_run(process)
    finish(process)
    wait_until(lambda: not any(is_alive(pid) for pid in tasks), "the tasks end", 20)


def pids(directory: Path) -> list[int]:
    """Of the two tasks, once both run."""
    path = directory / "pids"
    words = path.read_text().split() if path.exists() else []
    return [int(word) for word in words] if len(words) == 2 else []


@pytest.fixture
def watch() -> Iterator[ControllerWatch]:
    made = ControllerWatch()
    yield made
    made.close()


def listening(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    made = socket.socket(family)
    made.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    made.listen()
    return made


def stopped(watch: ControllerWatch) -> bool:
    """As the link looks."""
    watch.speak()
    return watch.is_stopped()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_public_12_a_port_without_a_greeting_is_a_stopped_controllers(
    watch: ControllerWatch, family: socket.AddressFamily
) -> None:
    with listening(family) as port:
        host = "127.0.0.1" if family == socket.AF_INET else "[::1]"
        watch.open(f"tcp://{host}:{port.getsockname()[1]}")
        wait_until(lambda: stopped(watch), "the kernel accepts", 5)
        assert watch.is_stopped()
        assert watch.is_open
    wait_until(lambda: not watch.is_stopped(), "the end of the controller is seen", 5)
    assert not watch.is_open


def test_public_12_a_controller_that_speaks_is_not_stopped(watch: ControllerWatch) -> None:
    with listening() as port:
        watch.open(f"tcp://127.0.0.1:{port.getsockname()[1]}")
        connection, _ = port.accept()
        with connection:
            wait_until(lambda: stopped(watch), "the connection is there", 5)
            connection.send(b"\xff")
            wait_until(lambda: not watch.is_stopped(), "the greeting arrives", 5)
            assert not watch.is_open


def test_public_12_a_port_without_a_controller_is_a_dead_ones(watch: ControllerWatch) -> None:
    with listening() as port:
        number = port.getsockname()[1]
    watch.open(f"tcp://127.0.0.1:{number}")
    watch.speak()
    assert not watch.is_stopped()


def test_public_12_without_descriptors_nothing_is_known(
    watch: ControllerWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(socket, "socket", refuse)
    watch.open("tcp://127.0.0.1:1")
    assert not watch.is_stopped()
