"""Many orders to start are passed on a few in each turn, so that the controller hears of the first while others are started."""

import select
from collections.abc import Sequence

from protocol.ids import AttemptId, RankId
from protocol.messages.orders import Spawn, Stop
from sflow_agent.connection.start_gate import STARTED_AT_ONCE, StartGate
from sflow_agent.core.events import AgentEvent, EndRequested, Ordered
from sflow_agent.descriptors import Descriptors
from sflow_agent.worker import Workers
from tests.unit.agent.driver import a_spec

RANKS = [RankId(AttemptId(f"t{number}", 1), 0) for number in range(2 * STARTED_AT_ONCE + 1)]
ALL = Ordered(Spawn(ranks=tuple(map(a_spec, RANKS))))
STOP = Ordered(Stop(attempt=RANKS[0].attempt, grace_s=1.0))


class Gate:
    """A gate, and what its link brings with the next turn."""

    def __init__(self, *events: AgentEvent) -> None:
        self.arriving: Sequence[AgentEvent] = events
        workers = Workers(Descriptors(select.epoll()))
        self.gate = StartGate(self._take, lambda: 5.0, workers, lambda _fact: None, lambda _text: None)

    def _take(self, _now: float) -> Sequence[AgentEvent]:
        events, self.arriving = self.arriving, ()
        return events

    def turn(self) -> list[AgentEvent]:
        """Return what one turn of the loop gets."""
        return list(self.gate.poll(0.0))


def started(events: Sequence[AgentEvent]) -> list[RankId]:
    """Return the ranks that are to be started, in order."""
    return [
        spec.rank
        for event in events
        if isinstance(event, Ordered) and isinstance(event.message, Spawn)
        for spec in event.message.ranks
    ]


def test_each_turn_starts_a_few_ranks_in_order() -> None:
    gate = Gate(ALL)
    turns: list[list[RankId]] = []
    while gate.gate.next_wakeup() == 0.0 or not turns:
        turns.append(started(gate.turn()))
    assert [len(turn) for turn in turns] == [STARTED_AT_ONCE, STARTED_AT_ONCE, 1]
    assert [rank for turn in turns for rank in turn] == RANKS
    assert gate.gate.next_wakeup() == 5.0, "nothing waits any more"
    assert gate.turn() == []


def test_a_stop_stays_behind_the_order_that_it_follows() -> None:
    gate = Gate(ALL)
    first = gate.turn()
    gate.arriving = (STOP,)
    rest = [event for _ in range(3) for event in gate.turn()]
    assert STOP not in first
    assert rest[-1] == STOP
    assert started([*first, *rest]) == RANKS


def test_few_orders_pass_as_they_came() -> None:
    gate = Gate(Ordered(Spawn(ranks=(a_spec(RANKS[0]),))), STOP)
    assert started(events := gate.turn()) == RANKS[:1]
    assert events[-1] == STOP


def test_the_end_of_the_agent_waits_for_no_start() -> None:
    gate = Gate(ALL)
    gate.turn()
    end = EndRequested("the guardian is gone")
    gate.arriving = (end,)
    assert gate.turn()[0] == end, "before the rest: the core starts nothing after it"
    assert gate.gate.next_wakeup() == 5.0


def test_a_withdrawn_order_stays_behind_the_one_that_it_withdraws() -> None:
    gate = Gate(ALL)
    gate.turn()
    withdrawn = Spawn(ranks=(a_spec(RANKS[-1]),), is_withdrawn=True)
    gate.arriving = (Ordered(withdrawn),)
    orders = [event.message for _ in range(3) for event in gate.turn() if isinstance(event, Ordered)]
    assert orders[-1] == withdrawn
