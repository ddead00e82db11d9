"""Real agents where processes or kernels are unusual: no pidfd, no memfd, a process without its main thread."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.messages.checks import Probe, TcpCheck
from protocol.messages.facts import ProbeTriggered
from tests.integration.agent.fake_controller import FakeController, is_alive, spec
from tests.integration.agent.test_logs_and_probes import free_port
from tests.integration.agent.without_syscalls import command, is_supported

MAIN_THREAD_ENDS = """
import ctypes, http.server, os, sys, threading, time
def serve():
    time.sleep(0.3)
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
open(sys.argv[2], "w").write(str(os.getpid()))
threading.Thread(target=serve).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.skipif(not is_supported(), reason="system calls of this machine are not known here")
def test_public_25_an_agent_works_without_pidfd_and_memfd(
    make_controller: Callable[..., FakeController], error: str
) -> None:
    controller = make_controller().start(before=command(error, "pidfd_open", "memfd_create")).welcome()
    controller.spawn(spec("a", "echo", "hi"), spec("stay", "sh", "-c", "sleep 60 & sleep 60"))
    assert controller.exited("a").exit_code == 0
    controller.started("stay")
    controller.stop("stay")
    assert controller.exited("stay").signal == 15
    assert not getattr(controller.cleared("stay"), "survivors", ())
    assert controller.leave() == 0


@pytest.mark.skipif(not is_supported(), reason="system calls of this machine are not known here")
def test_public_25_without_pidfd_an_agent_sees_that_its_guardian_died(
    make_controller: Callable[..., FakeController],
) -> None:
    controller = make_controller().start(before=command("ENOSYS", "pidfd_open")).welcome()
    controller.spawn(spec("stay", "sleep", "60"))
    pid = controller.started("stay").pid
    os.kill(controller.guardian, 9)
    controller.until(lambda: not is_alive(pid), "the end of the task")
    controller.until(lambda: not is_alive(controller.agent), "the end of the agent")


def test_p3_a_process_whose_main_thread_has_ended_is_ready_and_is_stopped(
    controller: FakeController, tmp_path: Path
) -> None:
    port = free_port()
    probe = Probe(kind="readiness", checks=(TcpCheck(port=port),))
    argv = (sys.executable, "-c", MAIN_THREAD_ENDS, str(port), str(tmp_path / "pid"))
    controller.spawn(spec("server", *argv, probes=(probe,)))
    controller.until(lambda: controller.said(ProbeTriggered), "its readiness", 5.0)
    controller.stop("server", grace_s=5.0)
    assert controller.exited("server").signal == 15
    controller.cleared("server")
    assert controller.leave() == 0


def test_p3_a_left_over_process_without_its_main_thread_is_ended(
    controller: FakeController, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(MAIN_THREAD_ENDS)
    pid_file = tmp_path / "pid"
    script = (
        f"setsid {sys.executable} {program} {free_port()} {pid_file} & "
        f"while [ ! -s {pid_file} ]; do sleep 0.02; done; sleep 0.3"
    )
    controller.spawn(spec("parent", "sh", "-c", script))
    assert controller.exited("parent").exit_code == 0
    controller.cleared("parent")
    pid = int(pid_file.read_text())
    assert not is_alive(pid)
    assert not Path(f"/proc/{pid}").exists()


WIPED = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["env -i", "env -i setsid"])
def test_p2_a_daemon_without_its_environment_does_not_outlive_its_task(
    controller: FakeController, tmp_path: Path, how: str
) -> None:
    """Other tasks run meanwhile: it is found by the limit that it inherited from its own one."""
    controller.spawn(*(spec(f"other{number}", "sleep", "60") for number in range(3)))
    program, pid_file = tmp_path / "daemon.py", tmp_path / "pid"
    program.write_text(WIPED)
    script = f"{how} {sys.executable} {program} {pid_file}; while [ ! -s {pid_file} ]; do sleep 0.02; done"
    controller.spawn(spec("a", "sh", "-c", script))
    assert controller.exited("a").exit_code == 0
    controller.cleared("a")
    assert not is_alive(int(pid_file.read_text()))
    assert is_alive(controller.started("other1").pid)


def test_p2_a_stop_finds_a_daemon_without_its_environment(controller: FakeController, tmp_path: Path) -> None:
    program, pid_file = tmp_path / "daemon.py", tmp_path / "pid"
    program.write_text(WIPED)
    controller.spawn(spec("a", "sh", "-c", f"env -i {sys.executable} {program} {pid_file}; exec sleep 60"))
    controller.until(lambda: pid_file.exists() and pid_file.read_text(), "the daemon")
    controller.stop("a")
    controller.cleared("a")
    assert not is_alive(int(pid_file.read_text()))
