"""The records of a list that makes them when they are asked for are those that are made at once."""

import pytest
from msgspec.structs import replace

from sflow_ctl.core.checkpoint.lazy_tasks import LazyTasks, made, made_of
from sflow_ctl.core.checkpoint.saved_state import Checkpoints, restore
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.copies.task_list import Copies, Part, listed_tasks, names_of
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task

S = TaskState


def first(base: str, *depends_on: Dependency, **fields: object) -> PlannedTask:
    return replace(
        a_task(f"{base}_0"), base=base, is_replicated=True, replica_index=0, depends_on=depends_on, **fields
    )


def planned(*parts: Part) -> Plan:
    return replace(a_plan(a_task("x")), tasks=listed_tasks(parts))


PLANS = {
    "free": planned(Copies(first("t"), 3), a_task("a")),
    "waited for as a group": planned(Copies(first("t"), 3), a_task("a", groups=("t",)), a_task("b")),
    "waited for by itself": planned(Copies(first("t"), 3), a_task("a", "t_1")),
    "waiting for a task": planned(a_task("a"), Copies(first("t", Dependency(task="a")), 3)),
    "waiting for a group": planned(
        Copies(first("t"), 2), Copies(first("u", Dependency(task="t", is_group=True)), 3), a_task("a")
    ),
    "in a chain": planned(Copies(first("t"), 3, "completed"), Copies(first("u"), 2)),
    "at the end": planned(Copies(first("t", finally_when="after_stop"), 2), Copies(first("u"), 2)),
    "removed": planned(Copies(first("t", removed_in=2), 2), a_task("a"), Copies(first("u"), 2)),
    "none": planned(a_task("a"), a_task("b", "a")),
}


@pytest.mark.parametrize("name", PLANS)
def test_records_and_requirements_are_those_of_a_new_scheduler(name: str) -> None:
    plan = PLANS[name]
    eager = Scheduler(plan).run.tasks
    lazy = LazyTasks(plan.tasks)
    assert [task.plan.name for task in made(lazy)] == [
        task.plan.name for task in eager if lazy.is_made(task.index)
    ]
    assert len(lazy) == len(eager)
    assert lazy[-1] == eager[-1]
    assert lazy[:2] == eager[:2]
    assert list(lazy) == eager
    assert list(made(lazy)) == eager
    assert list(names_of(plan.tasks)) == [task.plan.name for task in eager]


def test_only_what_is_asked_for_is_made() -> None:
    lazy = LazyTasks(PLANS["waited for as a group"].tasks)
    assert [task.plan.name for task in made(lazy)] == ["a", "b"]
    one = lazy[1]
    assert lazy[1] is one, "a task has one record"
    assert [task.plan.name for task in made(lazy)] == ["t_1", "a", "b"]
    assert made_of(lazy, (0, 1)) == [one]
    with pytest.raises(IndexError):
        lazy[5]


def test_states_are_given_to_records_that_are_there_and_to_later_ones() -> None:
    lazy = LazyTasks(PLANS["free"].tasks)
    lazy[0]
    given: list[tuple[int, str]] = []

    def give(task: Task, word: str) -> None:
        given.append((task.index, word))

    lazy.keep({0: "a", 2: "b"}, give)
    assert given == [(0, "a")]
    assert [lazy.is_kept(index) for index in range(4)] == [False, False, True, False]
    lazy[1], lazy[2]
    assert given == [(0, "a"), (2, "b")]
    assert not lazy.is_kept(2)


def test_a_restored_run_makes_no_record_of_an_ended_copy() -> None:
    """What it costs to take over is a matter of what is live, not of what has ended."""
    plan = planned(Copies(first("t"), 30), a_task("after", groups=("t",)), a_task("live"))
    before = Driver.joined(plan)
    names = [f"t_{number}" for number in range(30)]
    before.start(*names, "live")
    for name in names[:-1]:
        before.end(name)
    part = Checkpoints(before.run).take()
    after = Scheduler(plan, records=LazyTasks(plan.tasks))
    restore(after.run, [(part, 0.0)])
    assert [task.plan.name for task in made(after.run.tasks)] == ["t_29", "after", "live"]
    (requirement,) = after.run.tasks[30].needs
    assert (requirement.holding, requirement.possible) == (29, 30)
    assert after.run.tasks[0].state is S.COMPLETED
    assert after.run.tasks[0].attempt == before.run.tasks[0].attempt


def test_copies_that_wait_are_counted_as_one() -> None:
    plan = planned(a_task("a"), Copies(first("t", Dependency(task="a", until="completed")), 5))
    before = Driver.joined(plan)
    before.start("a")
    running = Checkpoints(before.run).take()
    after = Scheduler(plan, records=LazyTasks(plan.tasks))
    restore(after.run, [(running, 0.0)])
    assert [task.plan.name for task in made(after.run.tasks)] == ["a"]
    assert (after.run.tasks[3].state, after.run.tasks[3].unmet) == (S.WAITING, 1)
