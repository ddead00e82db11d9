"""The scheduler: how long a task's own way to end may take, hangs of one and several ranks, the limit of a run's end."""

from typing import cast

import msgspec
import pytest

from protocol.messages.facts import ActivityKind, LiveRank, RankCleared, RankExited, RankIdle
from protocol.messages.orders import Stop
from protocol.messages.rank_spec import HangPolicy, SideCommand, Stopping
from sflow_ctl.core.actions.stop_orders import STOP_OVERDUE_S
from sflow_ctl.core.commands import AnswerRequest, AwaitLog
from sflow_ctl.core.events import LogArrived, MessageReceived, OperatorRequest, StopRequested, WakeUp
from sflow_ctl.core.model.run import Margins
from sflow_ctl.core.requests import StopTasks
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver, Lines
from tests.unit.core.plans import a_plan, a_task, cleared, exited, goodbye, hello, rank, ready, started

SLOW = Stopping(command=SideCommand(argv=("quit",), timeout_s=100.0), grace_s=200.0)
WATCH = HangPolicy(no_output_s=60.0, command=SideCommand(argv=("dump",), timeout_s=30.0))


def quiet(
    name: str, number: int = 0, *, kind: ActivityKind = "output", is_quiet: bool = True
) -> MessageReceived:
    message = RankIdle(rank=rank(name, 1, number), kind=kind, is_quiet=is_quiet)
    return MessageReceived(node=0, message=message)


def changes(lines: Lines) -> list[tuple[str, str, str]]:
    return [(one.task, one.new.value, one.reason.word) for one in lines.transitions()]


def test_a_stop_carries_the_tasks_own_grace_and_its_agent_has_all_of_the_tasks_time() -> None:
    run = Driver(a_plan(a_task("a", stopping=SLOW)))
    run(hello(), started("a"))
    (order,) = run(StopRequested(signal="SIGINT"), now=1.0).orders(Stop)
    assert order == Stop(attempt=order.attempt, grace_s=200.0)
    assert run(WakeUp(), now=1.0 + 300.0 + STOP_OVERDUE_S - 0.1) == []
    assert run(WakeUp(), now=1.0 + 300.0 + STOP_OVERDUE_S) == [
        "0: abandon",
        "a#1 stopping->cancelled interrupted",
        "finish interrupted",
    ]


def test_a_forced_stop_is_expected_to_be_over_soon() -> None:
    run = Driver(a_plan(a_task("a", stopping=SLOW)))
    run(hello(), started("a"), StopRequested(signal="SIGINT"))
    (order,) = run(StopRequested(signal="SIGINT", force=True), now=5.0).orders(Stop)
    assert (order.is_forced, order.grace_s) == (True, 0.0)
    assert run(WakeUp(), now=5.0 + STOP_OVERDUE_S) == [
        "0: abandon",
        "a#1 stopping->cancelled interrupted",
        "finish interrupted",
    ]


def test_a_silent_task_is_ended_as_a_hang_and_tried_again() -> None:
    run = Driver(a_plan(a_task("a", retries=1, stopping=SLOW, hang=WATCH)))
    run(hello(), started("a"))
    commands = run(quiet("a"), now=60.0)
    assert changes(commands) == [("a", "stopping", "hang")]
    assert [order.is_hang for order in commands.orders(Stop)] == [True]
    assert run(WakeUp(), now=60.0 + 330.0 + STOP_OVERDUE_S - 0.1) == []
    run(exited("a", signal=15), now=61.0)
    task = run.task("a")
    assert (task.state, task.retries_used) == (TaskState.WAITING, 1)
    assert task.last_reason is not None
    assert "it has printed nothing for 60 s; see a/a.hang.log" in task.last_reason.text


def test_a_hang_without_retries_ends_the_run_and_is_its_cause() -> None:
    run = Driver(a_plan(a_task("a", hang=HangPolicy(no_gpu_use_s=90.0))))
    run(hello(), started("a"), quiet("a", kind="gpus"))
    commands = run(exited("a", signal=15))
    assert changes(commands) == [("a", "timeout", "hang")]
    assert run.run.outcome is Outcome.FAILED
    assert run.run.cause is not None
    assert run.run.cause.text == "task a hangs: it has not used its GPUs for 90 s"


def test_a_gang_hangs_when_none_of_its_ranks_shows_life() -> None:
    gang = a_task("a", placement=Placement(nodes=(0,)), ranks_per_node=(3,), hang=WATCH)
    run = Driver(a_plan(gang))
    run(hello(), started("a"), started("a", rank_number=1), quiet("a"), quiet("a", 1))
    assert run(started("a", rank_number=2)) != []
    assert run(quiet("a", 1, is_quiet=False), quiet("a", 2)) == []
    assert run(quiet("a", 1, kind="gpus")) == []
    assert [order.is_hang for order in run(quiet("a", 1)).orders(Stop)] == [True]


def test_a_rank_that_has_ended_does_not_keep_its_gang_alive() -> None:
    gang = a_task("a", placement=Placement(nodes=(0,)), ranks_per_node=(2,), hang=WATCH)
    run = Driver(a_plan(gang))
    run(hello(), started("a"), started("a", rank_number=1), quiet("a"))
    assert [order.is_hang for order in run(exited("a", rank_number=1)).orders(Stop)] == [True]


def test_ranks_that_fall_silent_before_all_have_started_hang_when_they_have() -> None:
    gang = a_task("a", placement=Placement(nodes=(0,)), ranks_per_node=(2,), hang=WATCH)
    run = Driver(a_plan(gang))
    run(hello(), started("a"), quiet("a"), quiet("a", 1))
    assert [order.is_hang for order in run(started("a", rank_number=1)).orders(Stop)] == [True]


@pytest.mark.parametrize("is_always", [False, True])
def test_a_ready_service_may_be_inactive_unless_its_policy_is_always(is_always: bool) -> None:
    watch = msgspec.structs.replace(WATCH, is_always=is_always)
    run = Driver(a_plan(a_task("a", service=True, hang=watch), a_task("b", "a")))
    run(hello(), started("a"), ready("a"))
    assert bool(run(quiet("a")).orders(Stop)) is is_always


def test_a_silence_that_people_hear_of_ends_nothing_and_is_recorded_each_time() -> None:
    told = HangPolicy(stalled_s=60.0)
    gang = a_task("a", placement=Placement(nodes=(0,)), ranks_per_node=(2,), hang=told)
    run = Driver(a_plan(gang, a_task("web", service=True, hang=told), a_task("b", "web")))
    run(hello(), started("a"), started("a", rank_number=1), started("web"), ready("web"))
    assert run(quiet("a", kind="progress"), quiet("web", kind="progress")) == []
    assert run(quiet("a", 1, kind="progress")) == ["a#1 is silent for 60 s"]
    assert run(quiet("a", 1, kind="progress")) == [], "the same fact again"
    assert run(quiet("a", 1, kind="progress", is_quiet=False)) == []
    assert run(quiet("a", 1, kind="progress")) == ["a#1 is silent for 60 s"]
    assert run.task("a").state is TaskState.RUNNING


def test_a_service_that_is_not_ready_hangs() -> None:
    run = Driver(a_plan(a_task("a", service=True, hang=WATCH), a_task("b", "a")))
    run(hello(), started("a"))
    assert run(quiet("a")).orders(Stop)


def test_inactivity_without_a_policy_or_while_stopping_is_ignored() -> None:
    run = Driver(a_plan(a_task("a"), a_task("b", hang=WATCH)))
    run(hello(), started("a"), started("b"))
    assert run(quiet("a")) == []
    run(StopRequested(signal="SIGINT"))
    assert run(quiet("b")) == []
    assert run(quiet("nobody")) == []


def test_tasks_that_exceed_the_stop_timeout_are_killed_and_named() -> None:
    plan = msgspec.structs.replace(
        a_plan(a_task("server", service=True, stopping=SLOW), a_task("client", "server")), stop_timeout_s=20.0
    )
    run = Driver(plan)
    run(hello(), started("server"), ready("server"), started("client"))
    run(StopRequested(signal="SIGINT"), now=1.0)
    run(exited("client", signal=15), now=2.0)
    assert run(WakeUp(), now=20.9) == []
    commands = run(WakeUp(), now=21.0)
    assert commands[0] == "warn: the run did not end within its stop_timeout of 20 s; killed: server"
    assert [order.is_forced for order in commands.orders(Stop)] == [True]
    commands = run(exited("server", signal=9), goodbye(), now=22.0)
    assert commands[-1] == "finish interrupted"


def test_final_tasks_do_not_run_after_the_stop_timeout() -> None:
    plan = a_plan(a_task("a", stopping=SLOW), a_task("last", finally_when="after_stop", timeout_s=1000.0))
    run = Driver(msgspec.structs.replace(plan, stop_timeout_s=20.0))
    run(hello(), started("a"), StopRequested(signal="SIGINT"))
    lines = run(WakeUp(), now=20.0)
    assert lines[0] == "warn: the run did not end within its stop_timeout of 20 s; killed: a"
    assert ("last", "cancelled", "time_limit") in changes(lines)


def test_an_end_in_time_is_not_spoken_of() -> None:
    run = Driver(msgspec.structs.replace(a_plan(a_task("a")), stop_timeout_s=20.0))
    run(hello(), started("a"), StopRequested(signal="SIGINT"))
    commands = run(exited("a", signal=15), now=1.0)
    assert commands[-1] == "0: leave 5"
    assert run(WakeUp(), now=20.0) == []


def test_long_graces_do_not_outlast_the_job() -> None:
    run = Driver(a_plan(a_task("a", stopping=SLOW)), gone_at=60.0)
    run(hello(), started("a"), StopRequested(signal="SIGTERM"), now=1.0)
    commands = run(WakeUp(), now=60.0 - Margins().force_s)
    assert commands[0].startswith("warn: ")
    assert "time that the Slurm job has left; killed: a" in commands[0]
    assert [order.is_forced for order in commands.orders(Stop)] == [True]


def test_survivors_of_all_ranks_and_nodes_are_named() -> None:
    gang = a_task("a", placement=Placement(nodes=(0, 1)), ranks_per_node=(1, 1))
    run = Driver(a_plan(gang, a_task("b"), nodes=2))
    run(hello(), hello(1, "s2"), started("a"), started("a", node=1, rank_number=1), started("b"))
    run(StopRequested(signal="SIGINT"))
    for number, name in ((0, "7 stuck"), (1, "8 deaf")):
        run(exited("a", signal=9, node=number, rank_number=number, cleared=False))
        message = RankCleared(rank=rank("a", 1, number), survivors=(name,))
        run(MessageReceived(node=number, message=message))
    run(exited("b", signal=9, cleared=False), cleared("b", survivors=("9 stuck",)))
    assert run.leave().survivors == ("7 stuck", "8 deaf", "9 stuck")


def test_an_order_to_start_is_never_the_last_that_an_agent_has_of_a_stopped_attempt() -> None:
    """The exit of its server comes with the same hello that shows that the order to start was lost."""
    srv = a_task("srv", service=True, on_failure="isolate")
    run = Driver.joined(a_plan(srv, a_task("cli", "srv"), a_task("rest")))
    run.serve("srv")
    run.start("rest")
    assert run.state("cli") == "starting"
    left = cast("RankExited", exited("srv", code=1).message)
    lines = run(hello(session="s2", live=(LiveRank(rank("rest"), 1, 0),), exited=(left,)))
    assert [line for line in lines if "cli" in line] == [
        "cli#1 starting->stopping upstream",
        "0: stop cli#1 5",
        "0: withdraw cli#1",
        "0: stop cli#1 5",
    ]


@pytest.mark.parametrize("cleared_later", [False, True])
def test_no_node_is_given_up_because_the_log_of_a_stopped_rank_is_late(cleared_later: bool) -> None:
    run = Driver(a_plan(a_task("a"), a_task("b")))
    run(hello(shares_run_directory=False))
    run.start("a", "b")
    kill = OperatorRequest(id="r1", by="op", action=StopTasks(tasks=("a",), is_killed=True))
    assert run(kill, now=1.0).of(AnswerRequest)
    left = RankExited(rank=rank("a"), signal=9, runtime_s=1.0, log_bytes=9, cleared=not cleared_later)
    assert run(MessageReceived(node=0, message=left), now=2.0).of(AwaitLog)
    if cleared_later:
        assert run(cleared("a")) == []
    assert run(WakeUp(), now=1.0 + STOP_OVERDUE_S) == []
    assert run(LogArrived(rank=rank("a"))) == ["a#1 stopping->cancelled stopped"]
    assert run.state("b") == "running"
