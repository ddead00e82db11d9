"""Agents, guardians and controllers that die, fall silent or come back: nothing survives."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import zmq

from protocol.machine.marks import LAST_AGENT
from protocol.messages.facts import Goodbye
from protocol.messages.orders import Refused
from protocol.messages.packets import ToAgentPacket
from protocol.session.codec import encode
from tests.integration.agent.fake_controller import FakeController, is_alive, marked, rank_id, spec

Make = Callable[..., FakeController]
STUBBORN = "trap '' TERM; (setsid sleep 600 &) ; echo up; while :; do sleep 0.05; done"


def with_stubborn_task(controller: FakeController) -> FakeController:
    controller.spawn(spec("a", "sh", "-c", STUBBORN))
    controller.started("a")
    controller.until(lambda: controller.log("a") == "up\n", "the task")
    return controller


def test_an_unneeded_agent_ends_silently() -> None:
    ended = subprocess.run(
        (sys.executable, "-I", "-m", "sflow_agent"), input=b"", capture_output=True, timeout=10, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_a_configuration_that_is_none_is_one_sentence() -> None:
    ended = subprocess.run(
        (sys.executable, "-I", "-m", "sflow_agent"),
        input=b"junk",
        capture_output=True,
        timeout=10,
        check=False,
    )
    assert ended.returncode == 3
    assert b"Traceback" not in ended.stderr
    assert b"not a agent configuration" in ended.stderr


def test_leaving_ends_remaining_processes_and_says_goodbye(controller: FakeController) -> None:
    with_stubborn_task(controller)
    assert controller.leave() == 0
    assert controller.said(Goodbye)
    assert marked(controller.marker) == []
    assert controller.stderr() == ""


def test_f32_the_guardian_ends_everything_when_the_agent_is_killed(controller: FakeController) -> None:
    with_stubborn_task(controller)
    os.kill(controller.agent, signal.SIGKILL)
    assert controller.exit_status() == 128 + signal.SIGKILL
    assert marked(controller.marker) == []
    assert "was killed by SIGKILL" in controller.stderr()


def test_the_agent_ends_everything_when_the_guardian_is_killed(controller: FakeController) -> None:
    with_stubborn_task(controller)
    agent = controller.agent
    os.kill(controller.guardian, signal.SIGKILL)
    controller.until(lambda: not is_alive(agent), "the agent's end")
    assert marked(controller.marker) == []


def test_sigterm_to_the_guardian_ends_the_run_in_order(controller: FakeController) -> None:
    with_stubborn_task(controller)
    os.kill(controller.guardian, signal.SIGTERM)
    assert controller.exit_status() == 3
    assert marked(controller.marker) == []
    assert controller.said(Goodbye)


def test_ctrl_c_is_none_of_the_agents_business(controller: FakeController) -> None:
    os.killpg(controller.guardian, signal.SIGINT)
    controller.spawn(spec("a", "true"))
    assert controller.exited("a").exit_code == 0


def test_a_silent_controller_ends_everything(make_controller: Make) -> None:
    controller = with_stubborn_task(make_controller(orphan_grace_s=1.0).start().welcome())
    controller.is_mute = True
    assert controller.exit_status() == 3
    assert marked(controller.marker) == []
    assert "no message from the controller" in controller.stderr()


def test_an_agent_that_stood_still_does_not_blame_the_controller(make_controller: Make) -> None:
    controller = make_controller(orphan_grace_s=1.5, heartbeat_s=0.3).start().welcome()
    controller.spawn(spec("a", "sleep", "600"))
    controller.started("a")
    agent, since = controller.agent, time.monotonic()
    os.kill(agent, signal.SIGSTOP)
    controller.until(lambda: time.monotonic() > since + 2.5, "standing still")
    os.kill(agent, signal.SIGCONT)
    controller.spawn(spec("b", "true"))
    assert controller.exited("b").exit_code == 0
    assert is_alive(controller.started("a").pid)


def test_a_refused_agent_ends_its_tasks_and_reports_the_reason(controller: FakeController) -> None:
    with_stubborn_task(controller)
    controller.order(Refused(code="version-mismatch", reason="agent 1.0 in /a, controller 2.0 in /b"))
    assert controller.exit_status() == 3
    assert marked(controller.marker) == []
    assert "agent 1.0 in /a, controller 2.0 in /b" in controller.stderr()


def test_a_new_session_gets_the_whole_truth(make_controller: Make) -> None:
    controller = make_controller(heartbeat_s=0.2).start().welcome()
    go = controller.directory / "go"
    waiting = spec("b", "sh", "-c", f"while ! test -e {go}; do sleep 0.02; done")
    controller.spawn(spec("a", "sleep", "600"), waiting)
    live = controller.started("a")
    controller.started("b")
    hellos = len(controller.hellos)
    controller.is_mute = True
    go.touch()
    controller.until(lambda: not is_alive(controller.started("b").pid), "its exit")
    since = time.monotonic()
    controller.until(lambda: time.monotonic() > since + 1.0, "a silence of five heartbeats")
    controller.is_mute = False
    controller.until(lambda: len(controller.hellos) > hellos, "a new hello")
    hello = controller.hellos[-1]
    assert [(rank.rank, rank.pid) for rank in hello.live] == [(rank_id("a"), live.pid)]
    assert [(fact.rank, fact.exit_code) for fact in hello.exited] == [(rank_id("b"), 0)]
    assert hello.session_number > 1
    controller.welcome()
    controller.stop("a")
    controller.cleared("a")


def test_an_agent_never_talks_to_a_controller_with_another_key(make_controller: Make) -> None:
    controller = make_controller(orphan_grace_s=1.0)
    other, _ = zmq.curve_keypair()
    controller.start(controller_key=other.decode())
    assert controller.exit_status() == 3
    assert controller.hellos == []


def test_garbage_and_packets_of_an_older_controller_are_ignored(controller: FakeController) -> None:
    stale = ToAgentPacket(
        session=controller.session, incarnation=0, messages=(Refused(code="old", reason="old"),)
    )
    for frame in (b"", b"\xc1garbage", os.urandom(100_000), encode({"type": "spawn"}), encode(stale)):
        controller.control.send_multipart((controller.identity, frame))
    controller.spawn(spec("a", "true"))
    assert controller.exited("a").exit_code == 0


def test_an_oversized_frame_costs_a_session_and_nothing_else(controller: FakeController) -> None:
    """The agent makes a new connection once the old one is silent: libzmq gives it up for good."""
    controller.spawn(spec("a", "sleep", "600"))
    pid = controller.started("a").pid
    session = controller.session
    controller.control.send_multipart((controller.identity, bytes(17 * 1024 * 1024)))
    controller.until(lambda: controller.session != session, "a new session")
    assert [rank.pid for rank in controller.hellos[-1].live] == [pid]
    controller.welcome().spawn(spec("b", "true"))
    assert controller.exited("b").exit_code == 0
    assert is_alive(pid)


def test_f12_the_first_address_that_answers_is_kept(make_controller: Make) -> None:
    controller = make_controller()
    dead = "tcp://127.0.0.1:1"
    controller.start(
        control_endpoints=(dead, controller.control_endpoint, controller.control_endpoint),
        log_endpoints=(dead, controller.log_endpoint, controller.log_endpoint),
    ).welcome()
    controller.spawn(spec("a", "true"))
    assert controller.exited("a").exit_code == 0


def test_an_agent_that_is_killed_is_started_again_until_it_was_often_enough(
    make_controller: Make,
) -> None:
    """The next one has nothing of the tasks, the same keys, and says how the one before ended."""
    controller = make_controller(orphan_grace_s=5.0)
    with_stubborn_task(controller.start(restarts=1).welcome())
    first = controller.agent
    os.kill(first, signal.SIGKILL)
    controller.until(lambda: len(controller.hellos) > 1, "the next agent's hello")
    hello = controller.hellos[-1]
    assert hello.pid != first
    assert (hello.follows, hello.live, hello.exited) == ("was killed by SIGKILL", (), ())
    assert hello.agent_incarnation > controller.hellos[0].agent_incarnation
    assert hello.controller_incarnation == controller.incarnation, "an older controller stays refused"
    assert marked(controller.marker) == []
    controller.welcome()
    controller.spawn(spec("b", "sh", "-c", STUBBORN))
    controller.started("b")
    os.kill(controller.agent, signal.SIGKILL)
    assert controller.exit_status() == 128 + signal.SIGKILL
    assert marked(controller.marker) == []
    assert "; no other one is started any more" in controller.stderr()


def test_a_terminated_agent_that_is_killed_is_not_started_again(
    make_controller: Make,
) -> None:
    """Slurm ends a job with SIGTERM and then SIGKILL: nothing may begin in between."""
    controller = with_stubborn_task(make_controller().start(restarts=3).welcome())
    os.kill(controller.guardian, signal.SIGTERM)
    os.kill(controller.agent, signal.SIGKILL)
    assert controller.exit_status() == 128 + signal.SIGKILL
    assert marked(controller.marker) == []


def test_an_agent_whose_node_was_given_up_is_not_started_again(
    make_controller: Make,
) -> None:
    controller = with_stubborn_task(make_controller().start(restarts=3).welcome())
    os.kill(controller.guardian, LAST_AGENT)
    os.kill(controller.agent, signal.SIGKILL)
    assert controller.exit_status() == 128 + signal.SIGKILL
