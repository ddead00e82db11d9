"""Orders to start ranks are paced by what each agent has started."""

from collections.abc import Sequence

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import LaunchFailed
from protocol.messages.orders import Spawn
from protocol.messages.rank_spec import RankSpec
from sflow_ctl.core.commands import Command, SendToAgent
from sflow_ctl.core.events import MessageReceived
from sflow_ctl.core.model.resources import MAX_BYTES, MAX_RANKS, StartWindows
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, hello, rank, started


def test_no_more_is_ordered_than_the_window_holds_until_ranks_are_started() -> None:
    drive = Driver(a_plan(*(a_task(f"t{index}") for index in range(5))), max_unanswered=2)
    assert drive(hello())[-1] == "0: spawn t0#1 t1#1"
    assert drive(started("t0"))[-1] == "0: spawn t2#1"
    assert drive(exited("t0")) == ["t0#1 running->completed exit"]


def test_a_rank_that_could_not_be_started_makes_room() -> None:
    drive = Driver(
        a_plan(*(a_task(f"t{index}", on_failure="continue") for index in range(3))), max_unanswered=1
    )
    assert drive(hello())[-1] == "0: spawn t0#1"
    assert (
        drive(MessageReceived(node=0, message=LaunchFailed(rank=rank("t0"), errno=2, reason="no")))[-1]
        == "0: spawn t1#1"
    )


def test_each_node_has_a_window_of_its_own() -> None:
    tasks = [a_task(f"t{index}", placement=Placement(nodes=(index % 2,))) for index in range(4)]
    drive = Driver.joined(a_plan(*tasks, nodes=2), 0, 1, max_unanswered=1)
    assert ordered(drive) == {0: ["t0"], 1: ["t1"]}
    assert drive(started("t1", node=1))[-1] == "1: spawn t3#1"


def test_what_a_lost_session_has_not_answered_is_ordered_anew() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b")), max_unanswered=1)
    drive(hello())
    assert drive(hello(0, "s2"))[-1] == "0: spawn a#1"
    assert drive(started("a"))[-1] == "0: spawn b#1"


def test_a_window_counts_bytes_as_well() -> None:
    windows = StartWindows()
    for number in range(3):
        windows.ordered(0, order(number, MAX_BYTES // 2))
    assert not windows.has_room(0)
    assert not windows.answered(0, order(0, 0).rank)
    assert windows.answered(0, order(1, 0).rank)
    assert windows.has_room(0)


def test_an_order_larger_than_the_window_is_sent_by_itself() -> None:
    windows = StartWindows()
    windows.ordered(0, order(0, 10 * MAX_BYTES))
    assert not windows.has_room(0)
    assert windows.answered(0, order(0, 0).rank)


def test_an_order_that_is_repeated_counts_once() -> None:
    windows = StartWindows(max_ranks=2)
    windows.ordered(0, order(0, 1))
    windows.ordered(0, order(0, 1))
    assert windows.has_room(0)
    assert windows.unanswered(0) == {order(0, 1).rank}


def test_thousands_of_tasks_are_never_more_than_a_window() -> None:
    count = 2000
    drive = Driver(a_plan(*(a_task(f"t{index}") for index in range(count))))
    drive(hello())
    sent = names_of(drive.commands)
    assert len(sent) == MAX_RANKS
    for index in range(count):
        before = len(drive.commands)
        drive(started(f"t{index}"))
        sent += names_of(drive.commands[before:])
        assert len(sent) - index - 1 <= MAX_RANKS
    assert len(sent) == count


def order(number: int, size: int) -> RankSpec:
    """An order whose script has so many bytes."""
    return RankSpec(rank=RankId(AttemptId(f"t{number}", 1), 0), argv=("x" * size,), env={}, log="t.log")


def ordered(drive: Driver) -> dict[int, list[str]]:
    """The tasks that each node was ordered to start."""
    nodes = {command.node for command in drive.commands if isinstance(command, SendToAgent)}
    return {
        node: names_of([one for one in drive.commands if isinstance(one, SendToAgent) and one.node == node])
        for node in nodes
    }


def names_of(commands: Sequence[Command]) -> list[str]:
    """The tasks that are ordered to be started."""
    messages = [command.message for command in commands if isinstance(command, SendToAgent)]
    return [spec.rank.attempt.task for one in messages if isinstance(one, Spawn) for spec in one.ranks]
