"""CPUs and memory that tasks ask for: how many run at once. The node of these tests has 2 CPUs and 1 GiB."""

from msgspec.structs import replace

from sflow_ctl.core.states import LIVE, TaskState
from sflow_ctl.plan.model import Placement, PlannedTask
from sflow_ctl.plan.parts.again import Restart
from sflow_ctl.plan.parts.needs import HostNeeds
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task

S = TaskState
MIB = 1 << 20
ANYWHERE = Placement(nodes=(0, 1), is_flexible=True)


def asking(
    name: str,
    cpus: int = 0,
    mib: int = 0,
    *,
    service: bool = False,
    placement: Placement | None = None,
    restart: Restart | None = None,
) -> PlannedTask:
    task = a_task(name, service=service, placement=placement, restart=restart)
    return replace(task, needs=HostNeeds(cpus=cpus, memory_bytes=mib * MIB))


def live(run: Driver) -> list[str]:
    return [task.plan.name for task in run.run.tasks if task.state in LIVE]


def joined(*tasks: PlannedTask, nodes: int = 1) -> Driver:
    return Driver.joined(a_plan(*tasks, nodes=nodes))


def test_ux_14_as_many_tasks_run_as_the_node_has_cpus_for() -> None:
    run = joined(*(asking(name, 1) for name in "abcd"))
    assert live(run) == ["a", "b"]
    run.start("a")
    run.end("a")
    assert live(run) == ["b", "c"]


def test_memory_is_counted_as_well_and_what_asks_for_nothing_starts_at_once() -> None:
    run = joined(asking("a", mib=700), asking("b", mib=700), asking("c", mib=300), a_task("d"))
    assert live(run) == ["a", "c", "d"]
    run.start("a")
    run.end("a")
    assert live(run) == ["b", "c", "d"]


def test_a_task_that_asks_for_more_than_the_node_has_gets_it_to_itself() -> None:
    run = joined(asking("a", 1), asking("big", 64), asking("b", 2))
    assert live(run) == ["a"]
    run.start("a")
    run.end("a")
    assert live(run) == ["big"]
    run.start("big")
    run.end("big")
    assert live(run) == ["b"]


def test_ready_services_hold_what_they_asked_for_x() -> None:
    run = joined(asking("web", 2, service=True), asking("job", 2), asking("more", 1))
    assert live(run) == ["web"]
    run.serve("web")
    assert live(run) == ["web", "job"]
    run.start("job")
    run.end("job")
    assert live(run) == ["web", "more"]


def test_a_service_that_is_restarted_holds_its_part_once() -> None:
    run = joined(
        asking("web", 1, service=True, restart=Restart(backoff_s=1.0)), *(asking(n, 1) for n in "abc")
    )
    run.serve("web")
    assert live(run) == ["web", "a"]
    run.end("web", 1)
    run.wake()
    assert live(run) == ["web", "a"]
    run.serve("web")
    run.start("a")
    run.end("a")
    assert live(run) == ["web", "b"]


def test_tasks_that_may_be_anywhere_go_where_there_is_room() -> None:
    run = joined(*(asking(name, 1, placement=ANYWHERE) for name in "abcdef"), nodes=2)
    placed = [task.attempt.place for task in run.run.tasks if task.state in LIVE]
    assert live(run) == ["a", "b"], "two agents of one machine have a CPU each"
    assert sorted(place.nodes for place in placed if place is not None) == [(0,), (1,)]
