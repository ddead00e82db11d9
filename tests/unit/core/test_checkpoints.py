"""A scheduler that begins with a checkpoint is the one that was given all events: at any moment of any run."""

import random
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from sflow_ctl.core.checkpoint.lazy_tasks import LazyTasks
from sflow_ctl.core.checkpoint.saved_state import (
    Checkpoints,
    SavedPart,
    SavedRun,
    UnusableCheckpointError,
    restore,
)
from sflow_ctl.core.checkpoint.saved_tasks import SavedTask, WholeTask
from sflow_ctl.core.commands import Command
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import CROWDED, DeadlineDue, RetryDue, Timers
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.copies.task_list import Copies, Part, listed_tasks
from sflow_ctl.plan.model import Plan
from tests.unit.core.driver import Driver
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.plans import a_plan, a_task
from tests.unit.core.test_cells import chain, gpus, swept
from tests.unit.core.test_fleet_properties import behaviours, fits, plans


def with_copies(plan: Plan, chance: random.Random) -> Plan:
    """The plan with copies of some of its tasks, and tasks that wait for all of them, or for one."""
    parts: list[Part] = list(plan.tasks)
    for number in range(chance.randrange(3)):
        base, size = f"c{number}", chance.randint(2, 4)
        first = msgspec.structs.replace(
            chance.choice(plan.tasks),
            base=base,
            name=f"{base}_0",
            replica_index=0,
            deferred=(),
            env={"SFLOW_TASK_OUTPUT_DIR": "/run/t"},
        )
        parts.append(Copies(first, size, chance.choice((None, None, "finished"))))
        if first.finally_when is None:
            groups, one = ((base,), ()) if chance.random() < 0.7 else ((), (f"{base}_1",))
            parts.append(a_task(f"e{number}", groups=groups, after_end=one))
    return msgspec.structs.replace(plan, tasks=listed_tasks(parts))


def written(part: SavedPart) -> SavedPart:
    """A part as it comes back from its file."""
    return msgspec.json.decode(msgspec.json.encode(part), type=SavedPart)


def plain(value: object) -> Any:
    """A value in a form that is equal for equal states, however sets are ordered and sequences kept."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return list(map(plain, value)) if isinstance(value, list | tuple) else value


def state_of(parts: list[SavedPart]) -> Any:
    """The newest state of each task and of the run."""
    tasks: dict[int, SavedTask | WholeTask] = {}
    for part in parts:
        tasks |= {one.index: one for one in part.usual}
        tasks |= {
            one.index: one for one in (msgspec.json.decode(raw, type=WholeTask) for _, raw in part.whole)
        }
    run = msgspec.json.decode(parts[-1].run, type=SavedRun)
    return plain([sorted(tasks.items()), run])


def whole_state(scheduler: Scheduler) -> Any:
    """The state of all tasks, whether they have changed or not."""
    scheduler.run.changed.update(range(len(scheduler.run.tasks)))
    return state_of([Checkpoints(scheduler.run).take()])


def counters(scheduler: Scheduler) -> list[object]:
    """What a checkpoint does not have, because it is counted anew."""
    tasks = scheduler.run.tasks
    return [
        (task.unmet, [(one.holding, one.serving, one.possible) for one in task.requirements])
        for task in tasks
    ]


@hypothesis.settings(
    deadline=None, derandomize=True, max_examples=15, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_checkpoint_and_tail_are_the_whole_journal(plan: Plan, seed: int, behaviour: Behaviour) -> None:
    plan = with_copies(plan, random.Random(seed))
    hypothesis.assume(fits(plan))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    journal = fleet.driver.journal
    chance = random.Random(seed)
    cuts = {chance.randrange(len(journal)) for _ in range(chance.choice((1, 3, 8)))}

    def new(*, is_lazy: bool = False) -> Scheduler:
        return Scheduler(
            plan,
            evaluator=EVALUATOR,
            fence_s=behaviour.fence_s,
            max_unanswered=behaviour.window,
            records=LazyTasks(plan.tasks) if is_lazy else None,
        )

    scheduler, parts = new(), list[SavedPart]()
    checkpoints = Checkpoints(scheduler.run)
    tail: list[Command] = []
    for number, (now, event) in enumerate(journal):
        commands = scheduler.handle(event, now)
        tail += commands if parts and number > max(cuts) else []
        if number in cuts:
            parts.append(written(checkpoints.take()))
            for is_lazy in (False, True):
                after = new(is_lazy=is_lazy)
                restore(after.run, [(part, 0.0) for part in parts])
                assert counters(after) == counters(scheduler)
                assert whole_state(after) == whole_state(scheduler)
            scheduler.run.changed.clear()
            if chance.random() < 0.3:  # the next parts are those of a successor
                again = new(is_lazy=chance.random() < 0.5)
                restore(again.run, [(part, 0.0) for part in parts])
                scheduler, checkpoints = again, Checkpoints(again.run)
    for is_lazy in (False, True):
        after = new(is_lazy=is_lazy)
        restore(after.run, [(part, 0.0) for part in parts])
        rest = [command for now, event in journal[max(cuts) + 1 :] for command in after.handle(event, now)]
        assert rest == tail
        assert whole_state(after) == whole_state(scheduler)
        assert counters(after) == counters(scheduler)


@pytest.mark.parametrize("limits", [{"max_parallel": 1}, {"max_parallel": 2}, {"gpu_budget": 1}])
def test_cells_of_sweeps_continue_at_every_moment(limits: dict[str, int]) -> None:
    tasks = [task for index in range(4) for task in chain(index, placement=gpus(1))]
    before = Driver.joined(swept(*tasks, gpus=4, **limits))
    for index in range(4):
        for name in (f"a{index}", f"b{index}"):
            if before.task(name).is_live:
                before.start(name)
                before.end(name, 1 if name == "a1" else 0)
    journal = before.journal
    assert len(journal) > 10
    for cut in range(len(journal)):
        first, after = Scheduler(before.scheduler.plan), Scheduler(before.scheduler.plan)
        for now, event in journal[:cut]:
            first.handle(event, now)
        part = written(Checkpoints(first.run).take())
        restore(after.run, [(part, 0.0)])
        for now, event in journal[cut:]:
            assert after.handle(event, now) == first.handle(event, now)
        assert whole_state(after) == whole_state(first)


def test_a_part_has_what_has_changed() -> None:
    """So what it costs is not a matter of how many tasks have ended."""
    plan = a_plan(*(a_task(f"t{number}", service=number == 9) for number in range(10)))
    driver = Driver.joined(plan)
    driver.start(*(f"t{number}" for number in range(10)))
    checkpoints = Checkpoints(driver.run)
    for number in range(4):
        driver.end(f"t{number}")
    first = checkpoints.take()
    assert ([one.index for one in first.usual], len(first.whole)) == ([0, 1, 2, 3], 6)
    driver.end("t4")
    second = checkpoints.take()
    assert ([one.index for one in second.usual], second.whole) == ([4], ())


def test_values_that_are_too_large_are_named() -> None:
    plan = a_plan(a_task("a"))
    before = Driver.joined(plan)
    before.start("a")
    before.run.outputs["a"] = {"text": "x" * 100}
    before.end("a")
    part = written(Checkpoints(before.run, lambda values: len(str(values)) > 50).take())
    assert isinstance(part.usual[0], SavedTask)
    after = Driver(plan)
    assert restore(after.run, [(part, 0.0)]) == [0]
    assert after.run.outputs == {}


def test_times_are_moved_to_another_clock() -> None:
    plan = a_plan(a_task("a", retries=1), a_task("b", timeout_s=50.0), a_task("c"))
    before = Driver.joined(plan)
    before.start("a", "b", "c")
    before.now = 3.0
    before.end("a", 1)
    before.end("c")
    part = written(Checkpoints(before.run).take())
    after = Driver(plan)
    restore(after.run, [(part, 1000.0)])
    assert after.scheduler.next_wakeup() == (before.scheduler.next_wakeup() or 0.0) + 1000.0
    for name in ("a", "b", "c"):
        assert after.task(name).started_after == before.task(name).started_after + 1000.0
        assert after.task(name).attempt.started_at == (before.task(name).attempt.started_at or 0.0) + 1000.0


def test_a_checkpoint_without_a_part_is_refused() -> None:
    with pytest.raises(UnusableCheckpointError, match="it is empty"):
        restore(Driver(a_plan(a_task("a"))).run, [])


def test_timers_of_attempts_that_are_over_are_dropped_when_there_are_many() -> None:
    over = set(range(2 * CROWDED)) - {5}
    timers = Timers(lambda timer: timer.task in over)
    for number in range(2 * CROWDED):
        timers.set(float(number), DeadlineDue(number, 1) if number % 2 else RetryDue(number, 1))
    assert len(timers.saved().heap) <= CROWDED
    assert timers.pop_due(1e9) == (5.0, DeadlineDue(5, 1))


DERIVED = {
    "plan",
    "tasks",
    "index_of",
    "node_names",
    "deferred",
    "stream_logs",
    "fence_s",
    "headroom_s",
    "changed",
    "plans",
    "links",
}
"""Fields of a run that its scheduler's arguments give, or that a checkpoint begins anew."""
APART = {
    "ledger",
    "queue",
    "leases",
    "timers",
    "cells",
    "windows",
    "unsatisfiable",
    "requests",
    "outputs",
    "found",
    "handing",
    "output_problems",
}
"""Those that a checkpoint has in another form."""


def test_every_field_of_a_run_and_a_task_is_in_a_checkpoint_or_derived() -> None:
    """Whoever adds one has to decide which."""
    same = {name for name in Run.__struct_fields__ if name in SavedRun.__struct_fields__}
    assert set(Run.__struct_fields__) - same - DERIVED - APART == {"revising"}
    of_task = set(Task.__struct_fields__) - set(WholeTask.__struct_fields__)
    assert of_task == {"plan", "requirements", "needs", "next_plan", "counted_left"}
    # No checkpoint is written while a run has a revision that is not over: see `runtime/journal/checkpointing.py`.
