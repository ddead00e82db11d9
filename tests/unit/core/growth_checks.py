"""What holds for every plan that a run has made itself: checks that the properties of runs with items and loops share."""

from collections.abc import Iterable
from typing import Any

from sflow_ctl.core.commands import Command, ReviseRun
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.revisions.blocks import steps_of, with_step
from sflow_ctl.plan.revisions.growing import items_in, with_items
from sflow_ctl.runtime.record.plan_file import PlanFile, encode_plan
from sflow_ctl.runtime.record.plan_growth import encode_growth, growths


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


def check_gathered(run: Run) -> None:
    """Assert that lists of outputs have one entry for each item, in the order of the items."""
    for base, members in run.plan.members().items():
        if not members or members[0].item is None:
            continue
        names = [task.name for task in members]
        assert [task.replica_index for task in members] == list(range(len(members)))
        gathered = run.deferred._views.outputs_of(base, names)
        for output in gathered:
            if members[0].item.positions is None:
                assert gathered[output] == [run.outputs.get(name, {}).get(output) for name in names]
            else:
                check_aligned(run, members, gathered[output])


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
