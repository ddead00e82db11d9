"""The cost of many nodes: what an agent's hello makes the scheduler try again."""

import pytest

from sflow_ctl.core.model.resources import GpuLedger
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, hello

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


def test_tasks_that_may_be_anywhere_start_once_no_agent_is_awaited() -> None:
    """Also where the last one is of a node that they cannot be on."""
    placement = Placement(nodes=(0, 1), is_flexible=True, node_count=1)
    drive = Driver(a_plan(a_task("a", placement=placement), nodes=3))
    assert not any("spawn" in line for line in (*drive(hello(0)), *drive(hello(1))))
    assert any("spawn a#1" in line for line in drive(hello(2)))
