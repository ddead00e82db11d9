"""What a controller that takes over has to do again, by the events of the one before: `core/takeover.py`."""

from msgspec.structs import replace

from protocol.messages.facts import LiveRank, RankExited
from sflow_ctl.core.commands import (
    AbandonNode,
    AwaitLog,
    CollectOutputs,
    Command,
    FinishRun,
    RecordTransition,
)
from sflow_ctl.core.events import MessageReceived, OperatorRequest, StopRequested
from sflow_ctl.core.requests import StopTasks
from sflow_ctl.core.takeover import Rebuilt, Recorded
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.results import PlannedOutput
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, hello, rank

ALL = Recorded(transitions=100, uploads=100)


def taken_over(plan: Plan, before: Driver, recorded: Recorded = ALL) -> tuple[Driver, Rebuilt]:
    """Return the driver of a controller that takes over, and what it has to do again."""
    after = Driver(plan)
    return after, after.rebuild(before.journal, recorded)


def kinds(commands: list[Command]) -> list[type[Command]]:
    return [type(one) for one in commands]


def test_a_run_in_its_ordinary_course_needs_nothing_but_hellos() -> None:
    plan = a_plan(a_task("a"), a_task("b", "a"))
    before = Driver.joined(plan)
    before.start("a")
    after, rebuilt = taken_over(plan, before)
    assert (rebuilt.lost, rebuilt.again, rebuilt.stops) == ([], [], 0)
    assert after.states("a", "b") == before.states("a", "b")


def test_what_was_decided_and_not_recorded_is_recorded() -> None:
    plan = a_plan(a_task("a"))
    before = Driver.joined(plan)
    before.start("a")
    changes = [one for one in before.commands if isinstance(one, RecordTransition)]
    _, rebuilt = taken_over(plan, before, Recorded(transitions=len(changes) - 1))
    assert rebuilt.lost == changes[-1:]


def test_a_log_that_an_exit_waits_for_is_awaited_again() -> None:
    plan = a_plan(a_task("a"))
    before = Driver(plan)
    before(hello(0, shares_run_directory=False))
    before.start("a")
    message = RankExited(rank=rank("a"), exit_code=0, runtime_s=1.0, log_bytes=9)
    assert before(MessageReceived(node=0, message=message)).of(AwaitLog)
    _, rebuilt = taken_over(plan, before)
    assert rebuilt.again == [AwaitLog(rank=rank("a"))]


def test_outputs_that_an_exit_waits_for_are_read_again() -> None:
    plan = a_plan(replace(a_task("a"), outputs=(PlannedOutput(pattern="rate = {rate:g}"),)))
    before = Driver.joined(plan)
    before.start("a")
    assert before(exited("a")).of(CollectOutputs)
    _, rebuilt = taken_over(plan, before)
    assert rebuilt.again == [CollectOutputs(task="a", attempt=1)]


def test_a_node_that_was_given_up_stays_so() -> None:
    plan = a_plan(a_task("a"), nodes=2)
    before = Driver.joined(plan)
    before.lose(1)
    after, rebuilt = taken_over(plan, before)
    assert kinds(rebuilt.again) == [AbandonNode]
    assert after(hello(1, "again")).of(AbandonNode)


def test_requests_to_stop_are_counted_on() -> None:
    plan = a_plan(a_task("a"))
    before = Driver.joined(plan)
    before.start("a")
    before(StopRequested(signal="SIGINT"))
    _, rebuilt = taken_over(plan, before)
    assert rebuilt.stops == 1


def test_a_run_that_had_finished_finishes() -> None:
    plan = a_plan(a_task("a"))
    before = Driver.joined(plan)
    before.start("a")
    before.end("a")
    finish = before.leave()
    _, rebuilt = taken_over(plan, before)
    assert rebuilt.again == [finish]
    assert isinstance(rebuilt.again[0], FinishRun)


def test_an_order_that_was_on_its_way_is_given_again() -> None:
    plan = a_plan(a_task("a"))
    before = Driver.joined(plan)
    after, _ = taken_over(plan, before)
    assert after.spawned() == ["a#1"]
    after(hello(0, "again"))
    assert after.spawned() == ["a#1", "a#1"]


def test_a_lost_order_to_start_comes_before_the_stop_that_an_operator_asked_for() -> None:
    """Its agent may be starting the rank, and ignores a stop of what it does not have."""
    plan = a_plan(a_task("a"), a_task("b"))
    before = Driver.joined(plan)
    before.start("b")
    kill = OperatorRequest(id="r1", by="op", action=StopTasks(tasks=("a",), is_killed=True))
    assert before(kill) == ["a#1 starting->stopping stopped", "0: stop a#1 0", "answer r1: done"]
    after, _ = taken_over(plan, before)
    live = (LiveRank(rank("b"), 1, 0),)
    assert after(hello(0, "again", live=live)) == ["0: accept again", "0: withdraw a#1", "0: stop a#1 0"]
    after.start("a")
    assert "a#1 stopping->cancelled stopped" in after(exited("a", signal=9))
