"""What an agent does for one of many ranks does not grow with their number: counted steps, not time."""

from protocol.ids import AttemptId, RankId
from protocol.messages.orders import Spawn, Stop
from protocol.messages.rank_spec import RankSpec
from sflow_agent.core.agent import AgentCore
from sflow_agent.core.events import (
    FactsAcknowledged,
    FactsSent,
    Ordered,
    ProcessesReaped,
    ProcessExited,
    ProcessStarted,
    WakeUp,
)
from sflow_agent.core.rank_index import OpenRanks, RankTimers
from tests.unit.counting import instructions


def steps_of_a_stop(count: int) -> int:
    """Instructions that the core takes to stop so many ranks, one order and one exit at a time, as after Ctrl-C."""
    core = AgentCore()
    ranks = [RankId(AttemptId(f"t{number}", 1), 0) for number in range(count)]
    specs = tuple(RankSpec(rank=rank, argv=("sleep",), env={}, log="x.log") for rank in ranks)
    core.handle(Ordered(Spawn(ranks=specs)), 0.0)
    for number, rank in enumerate(ranks):
        core.handle(ProcessStarted(rank, 100 + number, 7), 0.0)

    def stop_all() -> None:
        for rank in ranks:
            core.handle(Ordered(Stop(attempt=rank.attempt, grace_s=5.0)), 1.0)
        for rank in ranks:
            core.handle(ProcessesReaped((ProcessExited(rank, None, 15, 0, False),)), 1.0)
            core.handle(FactsSent(), 1.0)
            core.handle(FactsAcknowledged(), 1.0)
            core.next_wakeup()
        core.handle(WakeUp(), 7.0)

    steps = instructions(stop_all)
    assert not core.ranks
    return steps


def test_r22_a_stop_of_many_ranks_takes_as_many_steps_as_there_are_ranks() -> None:
    few, many = steps_of_a_stop(50), steps_of_a_stop(400)
    assert many < 8 * few * 1.2  # a heap is not quite linear


def test_r22_ranks_are_found_by_their_attempt() -> None:
    index = OpenRanks()
    ranks = [RankId(AttemptId("a", attempt), number) for attempt in (2, 1) for number in (1, 0)]
    for rank in ranks:
        index.add(rank)
    assert list(index) == sorted(ranks)
    assert index.of(AttemptId("a", 2)) == [ranks[1], ranks[0]]
    assert index.of(AttemptId("b", 1)) == []
    for rank in ranks:
        assert index.has_task("a")
        index.discard(rank)
        index.discard(rank)
        assert rank not in index
    assert not index
    assert not index.has_task("a")


def test_r22_timers_of_ranks_are_found_in_the_order_of_time() -> None:
    a, b = (RankId(AttemptId(name, 1), 0) for name in "ab")
    timers = RankTimers()
    timers.set(b, 1.0)
    timers.set(a, 1.0)
    timers.set(b, 3.0)
    assert timers.next_at() == 1.0
    assert timers.pop_due(2.0) == [a]
    timers.set(b, None)
    assert timers.next_at() is None
    timers.set(b, 3.0)
    assert timers.pop_due(3.0) == [b]
    assert timers.pop_due(9.0) == []
