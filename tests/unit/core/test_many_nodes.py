"""The cost of many nodes: what an agent's hello makes the scheduler try again."""

import pytest

from sflow_ctl.core.model.resources import GpuLedger
from sflow_ctl.core.nodes_by_room import NodesByRoom
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, hello
from tests.unit.counting import instructions

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

NODES = 60


def test_a_join_tries_only_what_may_be_on_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Placement] = []
    real = GpuLedger.take

    def take(self: GpuLedger, placement: Placement, is_up: object) -> Placement | None:
        tried.append(placement)
        return real(self, placement, is_up)  # type: ignore[arg-type]

    monkeypatch.setattr(GpuLedger, "take", take)
    tasks = [a_task(f"t{node}", placement=Placement(nodes=(node,))) for node in range(NODES)]
    scheduler = Scheduler(a_plan(*tasks, nodes=NODES))
    for node in range(NODES):
        commands = scheduler.handle(hello(node), 0.0)
        assert any("RecordTransition" in type(one).__name__ for one in commands), "its task starts"
    assert len(tried) <= 3 * NODES


def steps_of_placing(nodes: int, gpus: int) -> int:
    """Return the instructions for one task of one GPU after the other, until no node has any left."""
    ledger = GpuLedger(a_plan(a_task("a"), nodes=nodes, gpus=gpus).nodes)
    placement = Placement(nodes=tuple(range(nodes)), is_flexible=True, gpus_per_node=1)

    def place_all() -> None:
        for number in range(nodes * gpus):
            taken = ledger.take(placement, lambda _: True)
            assert taken is not None
            assert taken.nodes == (number // gpus,), "the first with room"
        assert ledger.take(placement, lambda _: True) is None

    return instructions(place_all)


def test_placing_a_task_does_not_look_at_full_nodes() -> None:
    few, many = steps_of_placing(20, 2), steps_of_placing(160, 2)
    assert many < 8 * few * 1.1


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_nodes_with_room_are_those_that_a_look_at_all_would_find(data: st.DataObject) -> None:
    capacities = data.draw(st.dictionaries(st.integers(0, 70), st.none() | st.integers(0, 9), min_size=1))
    rooms, free = NodesByRoom(capacities), dict(capacities)
    for _ in range(data.draw(st.integers(0, 12))):
        node = data.draw(st.sampled_from(sorted(capacities)))
        capacity = capacities[node]
        if capacity is not None:
            free[node] = data.draw(st.integers(0, capacity))
            rooms.change(node, free[node] or 0)
        nodes = tuple(data.draw(st.lists(st.sampled_from(sorted(capacities)), unique=True)))
        count = data.draw(st.integers(1, 10))
        expected = [one for one in nodes if (left := free[one]) is None or left >= count]
        assert list(rooms.having(nodes, count)) == expected


def test_tasks_that_may_be_anywhere_start_once_no_agent_is_awaited() -> None:
    """Also where the last one is of a node that they cannot be on."""
    placement = Placement(nodes=(0, 1), is_flexible=True, node_count=1)
    drive = Driver(a_plan(a_task("a", placement=placement), nodes=3))
    assert not any("spawn" in line for line in (*drive(hello(0)), *drive(hello(1))))
    assert any("spawn a#1" in line for line in drive(hello(2)))
