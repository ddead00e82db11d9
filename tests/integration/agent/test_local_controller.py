"""A real agent on its controller's machine: it sees the controller's death at once, and waits while that is stopped."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.integration.agent.fake_controller import FakeController, is_alive, spec
from tests.integration.agent.without_syscalls import command, is_supported

Make = Callable[..., FakeController]


def start(make: Make, *before: str) -> tuple[FakeController, int]:
    """Start an agent whose guardian's parent is a shell; return it and the shell's pid, which the agent watches."""
    controller = make(orphan_grace_s=1.5, heartbeat_s=0.3)
    controller.start_below_a_shell(before)
    controller.welcome()
    assert controller.process is not None
    return controller, controller.process.pid


def test_public_12_an_agent_waits_for_a_controller_that_is_stopped(make_controller: Make) -> None:
    controller, launcher = start(make_controller)
    controller.spawn(spec("a", "sleep", "60"))
    pid = controller.started("a").pid
    os.kill(launcher, signal.SIGSTOP)
    controller.is_mute = True
    time.sleep(4.0)
    assert is_alive(pid)
    os.kill(launcher, signal.SIGCONT)
    controller.is_mute = False
    hellos = len(controller.hellos)
    controller.until(lambda: len(controller.hellos) > hellos, "another session")
    controller.stop("a")
    assert controller.exited("a").signal == signal.SIGTERM


@pytest.mark.parametrize("is_without_pidfd", [False, True])
def test_n4_tasks_end_at_once_when_a_local_controller_is_killed(
    make_controller: Make, is_without_pidfd: bool
) -> None:
    if is_without_pidfd and not is_supported():
        pytest.skip("system calls of this machine are not known here")
    controller, launcher = start(
        make_controller, *(command("ENOSYS", "pidfd_open") if is_without_pidfd else ())
    )
    controller.spawn(spec("a", "sleep", "60"))
    pid = controller.started("a").pid
    os.kill(launcher, signal.SIGKILL)
    controller.until(lambda: not is_alive(pid), "the end of the task", 1.0 + is_without_pidfd)


def test_p4_agent_and_guardian_survive_user_signals(controller: FakeController) -> None:
    controller.spawn(spec("a", "sh", "-c", "kill -USR1 $$; echo not reached"))
    assert controller.exited("a").signal == signal.SIGUSR1  # tasks have the signal's own effect
    for pid in (controller.agent, controller.guardian):
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGUSR2)
    controller.spawn(spec("b", "true"))
    assert controller.exited("b").exit_code == 0
    assert controller.leave() == 0
