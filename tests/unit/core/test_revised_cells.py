"""Another plan for a live sweep: only the cells that it changes run, and a cell is its values, whatever its position."""

from typing import Any

import hypothesis
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.messages.orders import Stop
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import TERMINAL, Outcome
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.model import Plan, PlannedTask
from tests.unit.core.driver import Driver
from tests.unit.core.fleet import Behaviour
from tests.unit.core.plans import a_task
from tests.unit.core.test_cells import gpus, in_cell, swept
from tests.unit.core.test_revision_properties import RevisedFleet
from tests.unit.core.test_revisions import apply, done, other, starting


def cell(position: int, name: str, *tasks: PlannedTask) -> list[PlannedTask]:
    """The tasks of a cell with this id."""
    return [
        replace(one, cell=replace(one.cell, id=name, label=name))
        for task in tasks
        if (one := in_cell(position, task)).cell is not None
    ]


def job(position: int, name: str, **options: Any) -> list[PlannedTask]:
    return cell(position, name, a_task(f"t_{name}", on_failure="isolate", **options))


def served(position: int, name: str, script: str = "true") -> list[PlannedTask]:
    server = a_task(f"s_{name}", service=True, on_failure="isolate")
    client = a_task(f"c_{name}", server.name, on_failure="isolate")
    return cell(position, name, server, client if script == "true" else other(client, script))


def finish(driver: Driver, *names: str) -> None:
    for name in names:
        driver.start(name)
        driver.end(name)


def test_only_added_and_changed_cells_run_and_positions_may_move() -> None:
    driver = Driver.joined(swept(*job(0, "a"), *job(1, "b"), *job(2, "c"), max_parallel=2))
    finish(driver, "t_a")
    driver.start("t_b")
    changed = replace(job(3, "c")[0], script="other", argv=("bash", "-c", "other"))
    lines = apply(driver, swept(*job(0, "z"), *job(1, "a"), *job(2, "b"), changed, max_parallel=2))
    assert done(lines).text == "revision 2 applied: changed t_c; new t_z"
    assert driver.states("t_a", "t_b") == ["completed", "running"]
    assert driver.state("t_c") == "stopping"  # it was on its way
    driver.end("t_c", signal=15)
    driver.wake()
    assert driver.spawned()[3:] == ["t_c#2"]  # it keeps its cell's turn
    finish(driver, "t_b")
    assert driver.spawned()[4:] == ["t_z#1"]
    finish(driver, "t_z", "t_c")
    assert driver.run.outcome is Outcome.COMPLETED


def test_removed_cells_are_stopped_and_give_their_turn_to_others() -> None:
    driver = Driver.joined(swept(*job(0, "a"), *job(1, "b"), *job(2, "c"), max_parallel=1))
    driver.start("t_a")
    lines = apply(driver, swept(*job(0, "c"), max_parallel=1))
    assert done(lines).text == "revision 2 applied: removed t_a, t_b"
    assert [order.attempt.task for order in lines.orders(Stop)] == ["t_a"]
    assert driver.states("t_b", "t_c") == ["cancelled", "queued"]
    driver.end("t_a", signal=15)
    assert driver.spawned()[1:] == ["t_c#1"]
    finish(driver, "t_c")
    assert driver.run.outcome is Outcome.COMPLETED


def test_limits_of_cells_and_gpus_change_at_once() -> None:
    tasks = [one for index in range(4) for one in job(index, str(index), placement=gpus(2))]
    driver = Driver.joined(swept(*tasks, gpus=8, max_parallel=1))
    assert driver.spawned() == ["t_0#1"]
    lines = apply(driver, swept(*tasks, gpus=8, max_parallel=3, gpu_budget=4))
    assert done(lines).text == "revision 2 applied: no task changes"
    assert starting(lines) == ["t_1#1"]  # three cells may run, with four GPUs
    assert driver.state("t_2") == "queued"


def test_the_service_of_a_cell_that_was_done_starts_again_for_a_task_that_does() -> None:
    driver = Driver.joined(swept(*served(0, "a"), *served(1, "b")))
    driver.serve("s_a")
    finish(driver, "c_a")
    driver.end("s_a", signal=15)
    assert driver.state("s_a") == "completed"
    driver.serve("s_b")
    lines = apply(driver, swept(*served(0, "a", "other"), *served(1, "b")))
    assert done(lines).text == "revision 2 applied: changed s_a, c_a"
    assert starting(lines) == ["s_a#2"]
    assert driver.states("c_a", "s_b", "c_b") == ["waiting", "ready", "starting"]
    driver.serve("s_a")
    finish(driver, "c_a")
    assert driver.state("s_a") == "stopping"  # its cell is done again


def test_a_sweep_may_come_and_go() -> None:
    plain = [a_task("first")]
    driver = Driver.joined(swept(*plain, *job(0, "a"), *job(1, "b"), max_parallel=1))
    driver.start("first", "t_a")
    without = replace(swept(*plain), sweeps=())
    assert done(apply(driver, without)).text == "revision 2 applied: removed t_a, t_b"
    driver.end("t_a", signal=15)
    lines = apply(driver, swept(*plain, *job(0, "b"), *job(1, "c"), max_parallel=1))
    assert done(lines).text == "revision 3 applied: new t_b, t_c"
    assert starting(lines) == ["t_b#1"]
    finish(driver, "t_b", "t_c")
    assert driver.states("t_a", "t_b", "t_c") == ["cancelled", "completed", "completed"]


@st.composite
def sweeps(draw: st.DrawFn) -> Plan:
    """A sweep of some of six cells in any order, some with another script, some with a service."""
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1))
    tasks: list[PlannedTask] = []
    for position, name in enumerate(names):
        script = draw(st.sampled_from(["true", "true", "other"]))
        if name in "abc":
            tasks += served(position, name, script)
        else:
            (task,) = job(position, name)
            tasks.append(task if script == "true" else other(task, script))
    return swept(*tasks, max_parallel=draw(st.sampled_from([None, 1, 2])))


class SweptFleet(RevisedFleet):
    """A fleet whose run gets other sweeps."""

    def __init__(self, plans: list[Plan], seed: int) -> None:
        self._others = iter(plans[1:])
        super().__init__(plans[0], seed, Behaviour(max_delay_s=0.2, keeps_order=True), len(plans) - 1)

    def _other_plan(self, number: int) -> Plan:
        return next(self._others)


@hypothesis.settings(deadline=None, max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plans=st.lists(sweeps(), min_size=2, max_size=4), seed=st.integers(0, 2**32))
def test_every_wanted_cell_completes_whatever_is_applied_when(plans: list[Plan], seed: int) -> None:
    fleet = SweptFleet(plans, seed)
    fleet.run()
    run = fleet.scheduler.run
    wanted = {task.plan.name: task for task in run.tasks if not task.plan.removed_in}
    assert all(task.state in TERMINAL for task in run.tasks)
    failed = [task for task in run.tasks if task.state == "failed"]  # servers of this fleet may end too early
    if not failed:
        assert {name: task.state for name, task in wanted.items() if task.state != "completed"} == {}
    assert {name for name, task in wanted.items() if task.attempt.number > 1} <= fleet.affected
    assert not any(sweep.running or sweep.gpus for sweep in run.cells.sweeps.values())
    again = Scheduler(plans[0], evaluator=EVALUATOR, plans=fleet.plans.__getitem__)
    for now, event in fleet.driver.journal:
        again.handle(event, now)
    assert [task.state for task in again.run.tasks] == [task.state for task in run.tasks]


def test_a_changed_task_whose_server_fails_while_it_is_stopped_waits_for_nothing() -> None:
    driver = Driver.joined(swept(*served(0, "a"), a_task("rest")))
    driver.serve("s_a")
    driver.start("c_a", "rest")
    assert done(apply(driver, swept(*served(0, "a", "other"), a_task("rest")))).text.endswith("changed c_a")
    driver.end("s_a", 1)
    driver.end("c_a", signal=15)
    assert driver.states("s_a", "c_a") == ["failed", "cancelled"]
    assert driver.why("c_a") == "upstream: needs s_a, which is failed"
    assert driver.run.outcome is None
