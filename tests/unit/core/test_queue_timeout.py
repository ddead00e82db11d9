"""A task that finds no free place for the time of its `queue_timeout` ends; one that waits for others does not."""

import msgspec

from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Placement, PlannedTask
from tests.unit.core.driver import Driver, replay
from tests.unit.core.plans import a_plan, a_task

S = TaskState
ONE_GPU = Placement(nodes=(0,), is_flexible=True, gpus_per_node=1)


def limited(name: str, *depends_on: str, queue_s: float | None = 10.0) -> PlannedTask:
    task = a_task(name, *depends_on, placement=ONE_GPU, on_failure="isolate")
    return msgspec.structs.replace(task, retries=msgspec.structs.replace(task.retries, queue_s=queue_s))


def until(run: Driver, name: str, state: TaskState) -> None:
    for _ in range(20):
        if run.state(name) is state:
            return
        run.wake()
    raise AssertionError(f"{name} is {run.state(name)}")


def test_the_time_without_a_free_place_is_limited() -> None:
    plan = a_plan(limited("a"), limited("b"), limited("c", queue_s=None), nodes=1, gpus=1)
    run = Driver.joined(plan)
    run.start("a")
    assert run.states("a", "b", "c") == [S.RUNNING, S.QUEUED, S.QUEUED]
    until(run, "b", S.FAILED)
    assert run.why("b") == "timeout: found no free place within its queue_timeout of 10 s"
    run.end("a")
    assert run.state("c") is S.STARTING, "what ended in the queue keeps no other task from its place"
    assert replay(plan, run.journal) == run.commands


def test_a_task_that_gets_its_place_is_left_alone() -> None:
    run = Driver.joined(a_plan(limited("a"), limited("b"), nodes=1, gpus=1))
    run.start("a")
    run.end("a")
    run.start("b")
    assert run.task("b").placeless_since is None
    while run.scheduler.next_wakeup() is not None:
        run.wake()
    assert run.state("b") is S.RUNNING


def test_the_time_for_what_it_depends_on_does_not_count() -> None:
    run = Driver.joined(a_plan(limited("a"), limited("b", "a"), nodes=1, gpus=2))
    run.start("a")
    while run.scheduler.next_wakeup() is not None:
        run.wake()
    assert run.state("b") is S.WAITING
