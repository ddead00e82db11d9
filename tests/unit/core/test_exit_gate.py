"""When an exit counts: after its log and its outputs are here, by whatever way it was reported."""

from collections.abc import Sequence

import msgspec

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import RankExited, SideCommandEnded
from sflow_ctl.core.actions.exit_gate import LOG_WAIT_S
from sflow_ctl.core.commands import AwaitLog, CollectOutputs, Command, RecordTransition, Warn
from sflow_ctl.core.events import (
    AgentJoined,
    AgentLost,
    LogArrived,
    MessageReceived,
    OutputsCollected,
    SchedulerEvent,
    StopRequested,
    WakeUp,
)
from sflow_ctl.core.invariants import check_invariants
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement, PlannedOutput, PlannedTask
from tests.unit.core.plans import a_plan, a_task, exited, hello, rank, started

S = TaskState
RATE = PlannedOutput(pattern="rate = {rate:g}")
VALUES = OutputsCollected(task="a", attempt=1, values={"rate": 5.5})


def with_outputs(task: PlannedTask) -> PlannedTask:
    return msgspec.structs.replace(task, outputs=(RATE,))


def with_log(event: MessageReceived) -> MessageReceived:
    assert isinstance(event.message, RankExited)
    return msgspec.structs.replace(event, message=msgspec.structs.replace(event.message, log_bytes=9))


def elsewhere(event: AgentJoined) -> AgentJoined:
    """The node does not share the run directory."""
    return msgspec.structs.replace(
        event, hello=msgspec.structs.replace(event.hello, shares_run_directory=False)
    )


def tell(scheduler: Scheduler, *events: SchedulerEvent, now: float = 0.0) -> list[Command]:
    commands: list[Command] = []
    for event in events:
        commands += scheduler.handle(event, now)
        check_invariants(scheduler.run)
    return commands


def moves(commands: Sequence[Command]) -> list[str]:
    return [f"{c.transition.task} {c.transition.new}" for c in commands if isinstance(c, RecordTransition)]


def test_an_exit_counts_when_the_outputs_are_collected() -> None:
    scheduler = Scheduler(a_plan(with_outputs(a_task("a")), a_task("b", "a")))
    tell(scheduler, hello(), started("a"))
    assert tell(scheduler, exited("a")) == [CollectOutputs(task="a", attempt=1)]
    assert moves(tell(scheduler, VALUES)) == ["a completed", "b queued", "b starting"]
    assert scheduler.run.outputs == {"a": {"rate": 5.5}}


def test_r1_an_exit_in_a_hello_has_its_outputs_collected() -> None:
    scheduler = Scheduler(a_plan(with_outputs(a_task("a")), a_task("b", "a")))
    tell(scheduler, hello(), started("a"))
    message = exited("a").message
    assert isinstance(message, RankExited)
    again = hello(0, "s2", exited=(message,))
    assert tell(scheduler, again)[1:] == [CollectOutputs(task="a", attempt=1)]
    assert tell(scheduler, exited("a")) == [], "the same exit, as a fact"
    assert "b starting" in moves(tell(scheduler, VALUES))
    assert scheduler.run.outputs["a"] == {"rate": 5.5}


def test_r1_an_agent_that_has_forgotten_an_acknowledged_exit_does_not_lose_the_task() -> None:
    for is_cleared in (True, False):
        scheduler = Scheduler(a_plan(with_outputs(a_task("a")), a_task("b", "a")))
        tell(scheduler, hello(), started("a"), exited("a", cleared=is_cleared))
        assert moves(tell(scheduler, hello(0, "s2"))) == []
        assert moves(tell(scheduler, hello(0, "s3", incarnation=2))) == [], "nor one that was restarted"
        assert moves(tell(scheduler, VALUES))[0] == "a completed"


def test_a_streamed_log_is_waited_for_before_the_outputs_are_read() -> None:
    scheduler = Scheduler(a_plan(with_outputs(a_task("a"))))
    tell(scheduler, elsewhere(hello()), started("a"))
    assert tell(scheduler, with_log(exited("a"))) == [AwaitLog(rank=rank("a"))]
    assert tell(scheduler, LogArrived(rank=rank("a"))) == [CollectOutputs(task="a", attempt=1)]
    assert tell(scheduler, LogArrived(rank=rank("a"))) == [], "said again"
    assert "a completed" in moves(tell(scheduler, VALUES))


def test_a_log_that_does_not_arrive_is_waited_for_within_a_limit() -> None:
    scheduler = Scheduler(a_plan(a_task("a"), a_task("b", "a")))
    tell(scheduler, elsewhere(hello()), started("a"), with_log(exited("a")))
    assert tell(scheduler, WakeUp(), now=LOG_WAIT_S - 0.1) == []
    commands = tell(scheduler, WakeUp(), now=LOG_WAIT_S)
    assert commands[0] == Warn(text="a#1: its log did not arrive completely within 30 s")
    assert moves(commands) == ["a completed", "b queued", "b starting"]


def test_an_exit_is_known_when_its_node_is_lost_meanwhile() -> None:
    scheduler = Scheduler(a_plan(a_task("a"), a_task("b", "a", placement=Placement(nodes=(1,))), nodes=2))
    tell(scheduler, elsewhere(hello()), hello(1, "s2"), started("a"), with_log(exited("a", cleared=False)))
    assert moves(tell(scheduler, AgentLost(node=0, reason="silent")))[0] == "a completed"


def test_a_task_whose_exit_waits_to_count_is_not_stopped_any_more() -> None:
    timed = msgspec.structs.replace(with_outputs(a_task("a")), timeout_s=5.0)
    scheduler = Scheduler(a_plan(timed))
    tell(scheduler, hello(), started("a"), exited("a"))
    assert tell(scheduler, WakeUp(), now=5.0) == []
    assert tell(scheduler, StopRequested(signal="SIGINT"), now=6.0) == []
    assert moves(tell(scheduler, VALUES, now=7.0)) == ["a completed"]
    assert scheduler.run.outcome is Outcome.INTERRUPTED


def test_a_forced_end_waits_for_no_log_and_no_outputs() -> None:
    for reported in (exited("a"), with_log(exited("a"))):
        scheduler = Scheduler(a_plan(with_outputs(a_task("a"))))
        tell(scheduler, elsewhere(hello()), started("a"), reported)
        assert moves(tell(scheduler, StopRequested(signal="SIGINT", force=True))) == ["a completed"]


def test_r21_outputs_of_a_gang_are_read_once_when_its_last_rank_has_exited() -> None:
    ranks = 48
    scheduler = Scheduler(a_plan(with_outputs(a_task("a", ranks_per_node=(ranks,)))))
    tell(scheduler, hello(), *(started("a", rank_number=number) for number in range(ranks)))
    exits = [with_log(exited("a", rank_number=number)) for number in range(ranks)]
    assert tell(scheduler, *exits) == [AwaitLog(rank=rank("a", 1, number)) for number in range(ranks)]
    logs = [LogArrived(rank=rank("a", 1, number)) for number in range(ranks)]
    assert tell(scheduler, *logs) == [CollectOutputs(task="a", attempt=1)]
    assert "a completed" in moves(tell(scheduler, VALUES))


def test_a_failed_attempt_has_no_outputs_to_collect() -> None:
    scheduler = Scheduler(a_plan(with_outputs(a_task("a"))))
    tell(scheduler, hello(), started("a"))
    assert moves(tell(scheduler, exited("a", 3))) == ["a failed"]


def test_values_of_another_attempt_are_counted_as_stale() -> None:
    scheduler = Scheduler(a_plan(with_outputs(a_task("a"))))
    tell(scheduler, hello(), started("a"))
    for task, attempt in (("a", 7), ("none", 1)):
        assert tell(scheduler, OutputsCollected(task=task, attempt=attempt, values={"rate": 1})) == []
    assert scheduler.run.stale_messages == 2
    assert scheduler.run.outputs == {}


def test_names_that_the_plan_does_not_have_are_counted() -> None:
    scheduler = Scheduler(a_plan(a_task("a")))
    tell(scheduler, hello())
    foreign = RankId(AttemptId("../../x", 1), 0)
    facts = (
        RankExited(rank=foreign, exit_code=0, log_bytes=5),
        SideCommandEnded(rank=foreign, purpose="stop", output=b"", problem=""),
    )
    for fact in facts:
        assert tell(scheduler, MessageReceived(node=0, message=fact)) == []
    assert tell(scheduler, LogArrived(rank=foreign)) == []
    assert scheduler.run.stale_messages == 1
