"""A real agent ends tasks in their own way, and notices who shows no life."""

import os
import signal
from pathlib import Path

from protocol.ids import AttemptId
from protocol.messages.facts import RankIdle, SideCommandEnded
from protocol.messages.orders import Stop
from protocol.messages.rank_spec import HangPolicy, SideCommand, Stopping
from tests.integration.agent.fake_controller import FakeController, is_alive, marked, rank_id, spec

ON_USR1 = "trap 'echo asked; exit 0' USR1; trap 'echo TERM' TERM; echo up; while :; do sleep 0.05; done"


def bash(line: str, timeout_s: float = 30.0) -> SideCommand:
    return SideCommand(argv=("bash", "-c", line), timeout_s=timeout_s)


def up(controller: FakeController, script: str, stopping: Stopping, hang: HangPolicy | None = None) -> int:
    """The pid of a task that has printed "up"."""
    controller.spawn(spec("a", "bash", "-c", script, stopping=stopping, hang=hang, env={"HERE": "there"}))
    pid = controller.started("a").pid
    controller.until(lambda: controller.log("a") == "up\n", "the task")
    return pid


def side(controller: FakeController) -> SideCommandEnded:
    controller.until(lambda: controller.said(SideCommandEnded), "what a command beside the task has printed")
    return controller.said(SideCommandEnded)[0]


def test_a_command_has_the_tasks_environment_and_pid_and_may_end_it_without_a_signal(
    controller: FakeController,
) -> None:
    command = bash("echo $HERE $SFLOW_TASK_PID; kill -USR1 $SFLOW_TASK_PID")
    pid = up(controller, ON_USR1, Stopping(command=command))
    controller.stop("a", grace_s=5)
    controller.cleared("a")
    assert (controller.exited("a").exit_code, controller.log("a")) == (0, "up\nasked\n")
    ended = side(controller)
    assert (ended.output.decode(), ended.problem) == (f"there {pid}\n", "")


def test_children_that_end_later_than_their_parent_have_the_commands_time(controller: FakeController) -> None:
    script = (
        "(trap '' TERM; sleep 0.5; echo drained) & trap 'exit 0' USR1; echo up; while :; do sleep 0.05; done"
    )
    up(controller, script, Stopping(command=bash("kill -USR1 $SFLOW_TASK_PID"), signal=signal.SIGKILL))
    controller.stop("a", grace_s=5)
    controller.cleared("a")
    assert controller.log("a") == "up\ndrained\n"


def test_a_command_that_fails_is_followed_by_the_tasks_signal(controller: FakeController) -> None:
    script = "trap 'echo INT; exit 3' INT; trap 'echo TERM' TERM; echo up; while :; do sleep 0.05; done"
    up(controller, script, Stopping(command=bash("echo refused; exit 7"), signal=signal.SIGINT))
    controller.stop("a", grace_s=5)
    assert controller.exited("a").exit_code == 3
    assert controller.log("a") == "up\nINT\n"
    assert (side(controller).output, side(controller).problem) == (b"refused\n", "exited with 7")


def test_a_command_that_cannot_be_started_is_reported_and_the_signal_follows(
    controller: FakeController,
) -> None:
    up(controller, ON_USR1, Stopping(command=SideCommand(argv=("no-such-program",), timeout_s=30.0)))
    controller.stop("a", grace_s=0.3)
    assert controller.exited("a").signal == signal.SIGKILL
    assert "TERM" in controller.log("a")
    assert '"no-such-program" is not on PATH' in side(controller).problem


def test_a_command_that_stays_is_ended_with_all_that_it_has_started(controller: FakeController) -> None:
    command = bash("trap '' TERM; sleep 1000 & echo $!; wait", timeout_s=0.3)
    up(controller, "echo up; exec sleep 1000", Stopping(command=command))
    controller.stop("a", grace_s=5)
    controller.cleared("a")
    assert controller.exited("a").signal == signal.SIGTERM
    ended = side(controller)
    assert ended.problem == "did not end within 0.3 s"
    controller.until(lambda: not is_alive(int(ended.output)), "the end of what it has started")


def test_a_forced_stop_takes_the_command_with_it(controller: FakeController) -> None:
    ready = controller.directory / "ready"
    up(controller, ON_USR1, Stopping(command=bash(f"trap '' TERM; touch {ready}; while :; do sleep 1; done")))
    controller.stop("a", grace_s=60)
    controller.until(ready.exists, "the command")
    controller.order(Stop(attempt=AttemptId("a", 1), grace_s=0.0, is_forced=True))
    controller.cleared("a")
    left = [pid for pid in marked(controller.marker) if pid not in (controller.agent, controller.guardian)]
    assert left == []
    assert side(controller).problem == ""


def test_a_long_output_of_a_command_is_kept_up_to_its_limit(controller: FakeController) -> None:
    command = bash("seq 1 100000; kill -USR1 $SFLOW_TASK_PID")
    up(controller, ON_USR1, Stopping(command=command))
    controller.stop("a", grace_s=5)
    assert side(controller).output.split() == [b"%d" % number for number in range(1, 100_001)]


def quiet(controller: FakeController) -> list[bool]:
    return [fact.is_quiet for fact in controller.said(RankIdle)]


def test_inactivity_and_new_activity_are_reported(controller: FakeController, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo up; while ! test -e {go}; do sleep 0.02; done; while :; do echo on; sleep 0.02; done"
    up(controller, script, Stopping(), HangPolicy(no_output_s=0.5))
    controller.until(lambda: quiet(controller) == [True], "silence")
    go.touch()
    controller.until(lambda: quiet(controller) == [True, False], "new life")
    assert controller.said(RankIdle)[0] == RankIdle(rank=rank_id("a"), kind="output", is_quiet=True)


def test_a_hang_is_looked_into_while_the_task_still_runs(controller: FakeController) -> None:
    look = bash("kill -0 $SFLOW_TASK_PID && echo alive")
    pid = up(
        controller,
        "trap 'echo late; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        Stopping(),
        HangPolicy(no_output_s=600.0, command=look),
    )
    controller.order(Stop(attempt=AttemptId("a", 1), grace_s=5.0, is_hang=True))
    controller.cleared("a")
    assert (side(controller).purpose, side(controller).output) == ("hang", b"alive\n")
    assert controller.log("a").endswith("late\n")
    assert not is_alive(pid)


def test_unobservable_gpus_give_a_warning_and_are_never_idle(controller: FakeController) -> None:
    up(controller, "echo up; exec sleep 1000", Stopping(), HangPolicy(no_gpu_use_s=0.1, no_output_s=1.0))
    controller.until(lambda: quiet(controller) == [True], "silence of the log, which is longer")
    assert [fact.kind for fact in controller.said(RankIdle)] == ["output"]
    warnings = [getattr(fact, "text", "") for fact in controller.facts]
    assert any("no_gpu_use_for has no effect" in text for text in warnings), warnings


def test_a_killed_agent_leaves_no_stop_command(controller: FakeController) -> None:
    ready = controller.directory / "ready"
    up(controller, ON_USR1, Stopping(command=bash(f"touch {ready}; setsid sleep 1000")))
    controller.stop("a", grace_s=60)
    controller.until(ready.exists, "the command")
    os.kill(controller.agent, signal.SIGKILL)
    assert controller.exit_status() == 128 + signal.SIGKILL
    assert marked(controller.marker) == []
