"""Spare nodes, and `on_node_lost`: what the loss of a node means for the tasks on it."""

import msgspec
import pytest

from protocol.messages.facts import Leased
from sflow_ctl.core.events import AgentLost, MessageReceived, NodeCleared, WakeUp
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.parts.again import Restart
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import task_summaries
from tests.unit.core.driver import Driver
from tests.unit.core.plans import HTTP, a_plan, a_task, exited, hello, ready
from tests.unit.core.test_moves import FENCE_S, Run

S = TaskState
ANY = Placement(nodes=(0, 1, 2), is_flexible=True, node_count=1)
GPU = msgspec.structs.replace(ANY, gpus_per_node=1)


def on(node: int, name: str, *needs: str, rule: str | None = "elsewhere", **more: object) -> PlannedTask:
    """A task with a fixed place that may move to any of three nodes."""
    task = a_task(name, *needs, placement=Placement(nodes=(node,)), elsewhere=ANY)
    return msgspec.structs.replace(task, on_node_lost=rule, **more)


def with_spares(*tasks: PlannedTask, nodes: int = 3, spares: int = 1, gpus: int | None = None) -> Plan:
    """A plan whose last nodes are held back."""
    plan = a_plan(*tasks, nodes=nodes, gpus=gpus)
    held = [msgspec.structs.replace(node, is_spare=node.index >= nodes - spares) for node in plan.nodes]
    return msgspec.structs.replace(plan, nodes=tuple(held))


def test_a_task_moves_to_the_spare_node_without_a_retry() -> None:
    run = Run(with_spares(on(0, "t"), on(1, "u")))
    assert run.starts("t") == [(1, 0)]
    run.lose(0)
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 2)]
    assert run.starts("u") == [(1, 1)]
    assert run.warnings == ["spare-used: localhost-2 takes the place of localhost-0; no spare node is left"]
    assert (
        "again elsewhere, which does not count as a retry"
        in run.reasons["t"][-2 - 1].text + run.reasons["t"][-2 - 2].text
    )


def test_a_spare_node_gets_no_task_before_another_one_is_lost() -> None:
    flexible = [a_task(f"t{n}", placement=ANY, on_failure="continue") for n in range(6)]
    gpus = [a_task(f"g{n}", placement=GPU, on_failure="continue") for n in range(3)]
    run = Run(with_spares(*flexible, *gpus, gpus=1))
    places = [node for task in (*flexible, *gpus) for _, node in run.starts(task.name)]
    assert set(places) == {0, 1}
    assert run.state("g2") is S.QUEUED, "only the spare node has a GPU left"
    run.lose(0)
    assert run.starts("g2")[0][1] == 2
    assert run.warnings


def test_a_gang_is_started_again_with_the_spare_node_in_the_place_of_the_lost_one() -> None:
    everywhere = msgspec.structs.replace(ANY, node_count=0)
    gang = a_task("g", placement=Placement(nodes=(0, 1)), elsewhere=everywhere, ranks_per_node=(1, 1))
    run = Run(with_spares(msgspec.structs.replace(gang, on_node_lost="elsewhere")))
    run.lose(0)
    run.tell(exited("g", None, node=1, rank_number=1, signal=15))
    run.pass_to_wakeup()
    assert run.starts("g")[2:] == [(2, 1), (2, 2)]


def test_the_move_waits_until_nothing_can_live_on_the_lost_node() -> None:
    run = Run(with_spares(on(0, "t"), on(1, "u")), fence_s=FENCE_S)
    run.lose(0)
    assert run.state("t") is S.STOPPING
    run.tell(WakeUp(), 5.0)
    assert run.starts("t") == [(1, 0)]
    run.tell(NodeCleared(node=0), 9.0)
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 2)]


def test_without_spares_a_task_moves_to_a_node_that_is_left() -> None:
    run = Run(a_plan(on(0, "t"), on(1, "u"), nodes=2))
    run.lose(0)
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 1)]
    assert run.warnings == []


def test_fail_ends_a_task_that_has_retries_left() -> None:
    task = msgspec.structs.replace(a_task("t", retries=3, elsewhere=ANY), on_node_lost="fail")
    run = Run(a_plan(task, on(1, "u"), nodes=3))
    run.lose(0)
    assert run.state("t") is S.LOST
    assert run.scheduler.run.outcome is Outcome.FAILED


@pytest.mark.parametrize("reason", ["node_lost", "exit"])
def test_elsewhere_is_for_lost_nodes_alone(reason: str) -> None:
    run = Run(a_plan(on(0, "t"), on(1, "u"), nodes=3))
    if reason == "exit":
        run.tell(exited("t", 1))
        assert run.state("t") is S.FAILED
    else:
        run.lose(0)
        run.pass_to_wakeup()
        assert run.state("t") is S.RUNNING


def test_a_task_that_brings_down_its_nodes_does_not_take_all_of_them() -> None:
    nodes = 40
    everywhere = Placement(nodes=tuple(range(nodes)), is_flexible=True, node_count=1)
    task = msgspec.structs.replace(a_task("t", elsewhere=everywhere), on_node_lost="elsewhere")
    run = Run(a_plan(task, nodes=nodes))
    while run.state("t") is not S.LOST:
        run.lose(run.starts("t")[-1][1])
        if run.state("t") is S.WAITING:
            run.pass_to_wakeup()
    assert len(run.starts("t")) == 17


def test_a_second_loss_uses_the_next_spare_node_and_a_lost_spare_is_none() -> None:
    wide = Placement(nodes=(0, 1, 2, 3, 4), is_flexible=True, node_count=1)
    one = msgspec.structs.replace(on(0, "t"), elsewhere=wide)
    run = Run(with_spares(one, on(1, "u"), nodes=5, spares=3))
    run.lose(2)
    assert run.state("t") is S.RUNNING
    assert run.warnings == []
    run.lose(0)
    run.pass_to_wakeup()
    run.lose(3)
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 3), (3, 4)]
    assert [one.partition(";")[2] for one in run.warnings] == [
        " 1 spare node is left",
        " no spare node is left",
    ]


def test_a_spare_node_takes_the_place_of_one_whose_agent_never_reports() -> None:
    driver = Driver(with_spares(on(0, "t"), on(1, "u")))
    driver(hello(1, "s1"), hello(2, "s2"))
    lines = driver(AgentLost(node=0, reason="it ended with 1"))
    assert driver.run.outcome is None
    assert [line for line in lines if "spare-used" in line]
    assert driver.task("t").attempt.nodes == {2} or driver.state("t") is S.STARTING
    assert "0: abandon" in lines


def test_a_run_that_begins_without_a_node_uses_a_spare_one() -> None:
    driver = Driver(with_spares(on(0, "t"), on(1, "u")), missing=frozenset({0}))
    lines = driver(hello(2, "s2"), hello(1, "s1"))
    assert [line for line in lines if "spare-used" in line]
    assert driver.task("t").attempt.node == 2


def test_a_service_moves_with_its_ports_and_its_dependants_start_again_if_asked_for() -> None:
    restart = Restart(count=1, backoff_s=0.0, restarts_dependents=True)
    service = on(
        0, "server", ports=(HTTP,), probes=a_task("x", service=True).probes, kind="service", restart=restart
    )
    client = a_task("client", "server", placement=Placement(nodes=(1,)), uses_port_of=("server",))
    run = Run(with_spares(service, client))

    def lease(node: int, port: int) -> None:
        run.tell(MessageReceived(node=node, message=Leased(task="server", number=1, ports={"http": (port,)})))

    lease(0, 7)
    run.tell(ready("server"))
    assert run.last("client").env["PORT_OF_server"] == "7"
    run.lose(0)
    run.tell(exited("client", None, node=1, signal=15))
    while not run.scheduler.run.task_named("server").attempt.is_unsent:
        run.pass_to_wakeup()
    lease(2, 8)
    assert run.starts("server") == [(1, 0), (2, 2)]
    run.tell(ready("server", attempt=2, node=2))
    assert run.starts("client") == [(1, 1), (2, 1)]
    assert run.last("client").env["PORT_OF_server"] == "8"
    assert run.scheduler.run.task_named("server").restarted_at == (), "a move is not a restart"
    assert run.warnings == ["spare-used: localhost-2 takes the place of localhost-0; no spare node is left"]


def test_the_summary_says_where_a_task_has_moved_from() -> None:
    plan = with_spares(on(0, "t"), on(1, "u"))
    driver = Driver.joined(plan)
    driver.start("t", "u")
    lines = driver.lose(0)
    assert [line for line in lines if "spare-used" in line]
    driver.wake()
    view = RunView(plan)
    transitions = [one.transition for one in driver.commands if hasattr(one, "transition")]
    view.apply_all([*transitions, *transitions])
    moved = {one.name: (one.moved_from, one.node) for one in task_summaries(view)}
    assert moved["t"] == (("localhost-0",), "localhost-2")
    assert moved["u"] == ((), "localhost-1")
