"""What holds for every plan that a run has made itself: checks that the properties of runs with items and loops share."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sflow_ctl.core.commands import Command, RecordTransition, ReviseRun
from sflow_ctl.core.events import SchedulerEvent, TextsRendered
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.revisions.blocks import steps_of, with_step
from sflow_ctl.plan.revisions.growing import items_in, with_items
from sflow_ctl.runtime.record.plan_file import PlanFile, encode_plan
from sflow_ctl.runtime.record.plan_growth import encode_growth, growths
from tests.unit.core.fleet import reported

GATHER = "gather"
"""A task that is given a list of outputs."""


def file_of(plan: Plan) -> PlanFile:
    return PlanFile(b"".join(encode_plan(plan)))


def check_growths(plan: Plan, commands: Iterable[Command]) -> int:
    """Assert that each plan is what its parts make of the one before, and comes back from its files; return how many grew."""
    file, count = file_of(plan), 0
    for command in commands:
        if not isinstance(command, ReviseRun):
            continue
        new = command.plan
        if command.grown is None:
            file = file_of(new)
        else:
            count += 1
            assert new.tasks[command.grown].name == plan.tasks[command.grown].name
            assert whole(plan, new, command.grown) == new, "as if all of the plan had been looked at"
            line = encode_growth(plan, new, command.grown, command.text, 0, None)
            file.grow(growths(line, plan.revision))
        assert file.plan() == new
        assert file.names() == [task.name for task in new.tasks]
        assert new.revision == plan.revision + 1
        plan = new
    return count


def whole(old: Plan, new: Plan, index: int) -> Plan:
    """Return the next plan as the functions make it that look at all of the plan before."""
    task = new.tasks[index]
    if task.block is None:
        return with_items(old, task.name, items_in(new, task.name))
    return with_step(old, task.name, steps_of(new, task)[-1])


def check_skips(run: Run) -> None:
    """Assert that all tasks have ended, and that each that was skipped says why."""
    for task in run.tasks:
        assert task.state in TERMINAL
        if task.state is TaskState.SKIPPED:
            assert task.last_reason is not None
            assert task.last_reason.word != "none"
            assert task.last_reason.text, task.plan.name


def check_gathered(run: Run, journal: Iterable[tuple[float, SchedulerEvent]] = ()) -> None:
    """Assert that lists of outputs have one entry for each item, in the order of the items."""
    sizes = {}
    for base, members in run.plan.members().items():
        if not members or members[0].item is None:
            continue
        names = [f"{base}_{index}" for index in range(len(members))]
        assert [task.name for task in members] == names
        assert [task.replica_index for task in members] == list(range(len(members)))
        gathered = run.deferred._views.outputs_of(base, run.deferred._views.copies_of(base))
        if members[0].item.positions is not None:
            for values in gathered.values():
                check_aligned(run, members, values)
            continue
        sizes[base] = len(names)
        known = [reported(name) if name in run.outputs else {} for name in names]
        assert dict(gathered) == ({"rate": [one.get("rate") for one in known]} if any(known) else {})
    gathers = {source.group: task for task in run.tasks for one in task.plan.inputs for source in one.sources}
    for _, event in journal:
        if isinstance(event, TextsRendered) and event.texts is not None:
            for base, task in gathers.items():
                if base in sizes and task.plan.name == event.task:
                    check_given(base, sizes[base], event.texts.inputs[0].value)


def check_aligned(run: Run, members: Iterable[PlannedTask], values: list[Any]) -> None:
    """Assert that a list over the items of chunks, whose outputs are the positions of their items, has each in its place."""
    where = [one for task in members if task.item is not None for one in task.item.positions or ()]
    assert sorted(where) == list(range(len(values)))
    for task in members:
        assert task.item is not None
        for index, position in enumerate(task.item.positions or ()):
            found = run.found.get(task.name, {}).get("n")
            is_there = task.name in run.outputs and found is not None and index not in found.lacking
            assert values[position] == (position if is_there else None), task.name


def check_given(base: str, size: int, given: object) -> None:
    """Assert that a task is given the outputs of copies in their order."""
    if given is None:  # no copy has any
        return
    assert isinstance(given, list)
    assert len(given) == size
    for index, value in enumerate(given):
        assert value in (None, reported(f"{base}_{index}").get("rate")), (base, given)


def check_copies(first: Plan, run: Run) -> None:
    """Assert that copies wait for what the task waits for that they stand for, and have its condition and its limits."""
    written = {
        task.name: task
        for task in (*first.tasks, *(one for body in first.block_tasks.values() for one in body))
    }
    for task in run.plan.tasks:
        origin = written.get(task.base)
        late = None if origin is None or origin.foreach is None else origin.foreach.late
        if origin is None or late is None or task.item is None:
            continue
        needs = {(one.task, one.until) for one in task.depends_on}
        assert {(origin.name, "completed"), *((one.task, one.until) for one in origin.depends_on)} <= needs
        assert task.when == (None if late.waits_for_when else origin.when)
        assert task.foreach is not None
        assert origin.foreach is not None
        assert task.foreach.max_parallel == origin.foreach.max_parallel
        assert (task.retries, task.on_failure, task.timeout_s) == (
            origin.retries,
            origin.on_failure,
            origin.timeout_s,
        )


def check_order(run: Run, commands: Iterable[Command]) -> None:
    """Assert how many copies ran at once, and that an iteration began when the one before, and all inside of it, had ended."""
    limits = {
        task.plan.base: task.plan.foreach.max_parallel
        for task in run.tasks
        if task.plan.foreach is not None and task.plan.item is not None and task.plan.foreach.max_parallel
    }
    plans = {task.plan.name: task.plan for task in run.tasks}
    states: dict[str, TaskState] = {}
    live: Counter[str] = Counter()
    for command in commands:
        if not isinstance(command, RecordTransition):
            continue
        one = command.transition
        plan = plans.get(one.task)
        if plan is None:
            continue
        live[plan.base] += (one.new in LIVE) - (states.get(one.task) in LIVE)
        states[one.task] = one.new
        if plan.base in limits and plan.item is not None:
            assert live[plan.base] <= limits[plan.base], f"{live[plan.base]} copies of {plan.base} at once"
        if one.new is TaskState.STARTING and one.attempt == 1 and plan.frame is not None:
            check_before(plan, plans, states)


def check_before(
    plan: PlannedTask, plans: Mapping[str, PlannedTask], states: Mapping[str, TaskState]
) -> None:
    """Assert that all tasks of the iterations before that of a task have ended."""
    frame = plan.frame
    assert frame is not None
    for name, other in plans.items():
        is_same = other.frame is not None and other.frame.owner == frame.owner
        if is_same and other.frame is not None and other.frame.iteration < frame.iteration:
            assert states.get(name) in TERMINAL, f"{plan.name} begins, and {name} is {states.get(name)}"
