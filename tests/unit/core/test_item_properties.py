"""Properties of whole runs whose tasks have lists of items, known when planning or late: they end, and gather in order."""

import hypothesis
import msgspec
from hypothesis import strategies as st

from protocol.messages.handover import OutputRule
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.copies.task_list import Copies
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from sflow_ctl.plan.parts.again import Quorum
from sflow_ctl.plan.parts.cells import LateItems, PlannedForeach, item_of
from sflow_ctl.plan.parts.items import grouped, ungrouped
from sflow_ctl.plan.results import InputSource, PlannedInput, PlannedWhen
from sflow_ctl.plan.revisions.growing import items_in, late_list
from tests.unit.core.driver import replay
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.growth_checks import (
    GATHER,
    check_copies,
    check_gathered,
    check_growths,
    check_order,
    check_skips,
)
from tests.unit.core.plans import a_task
from tests.unit.core.test_fleet_properties import RATE, behaviours, fits, plans

LISTS: dict[str, list[object] | None] = {
    "${{ [] }}": [],
    "${{ [3, 1, 2, 7] }}": [3, 1, 2, 7],
    "${{ [1, 2, 3] }}": [1, 2, 3],
    "${{ 5 }}": None,
}
"""Lists as written, and their items; None for what is not a list."""
CONDITIONS = (None, None, PlannedWhen(text="${{ item != 2 }}"))


def may_have_items(tasks: list[PlannedTask], task: PlannedTask) -> bool:
    """Return whether others may run in the place of a task of a plan that was drawn."""
    groups = {one.task for other in tasks for one in other.depends_on if one.is_group}
    users = {name for other in tasks for name in other.uses_ports}
    is_plain = not (task.is_service or task.ports or task.uses_ports or task.deferred or task.files)
    is_job = task.finally_when is None and not task.is_main and not task.has_master_port
    is_free = task.base not in groups and not {task.name, task.base} & users
    return is_plain and is_job and is_free and task.foreach is None


@st.composite
def listed(draw: st.DrawFn) -> Plan:
    """Draw a plan of which some tasks are run for items."""
    plan = draw(plans())
    tasks = list(plan.tasks)
    names = [task.name for task in tasks if may_have_items(tasks, task)]
    chosen = st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=4) if names else st.just([])
    for name in draw(chosen):
        task = next(one for one in tasks if one.name == name)
        if not may_have_items(tasks, task):
            continue
        foreach = PlannedForeach(
            max_parallel=draw(st.sampled_from([None, 1, 2])),
            chunk=draw(st.sampled_from([None, None, 1, 2])),
            seed=draw(st.sampled_from([None, None, 7])),
        )
        task = msgspec.structs.replace(
            task,
            base=name,
            is_replicated=True,
            when=None if foreach.chunk is not None else draw(st.sampled_from(CONDITIONS)),
            quorum=None,
            min_ready=None,
        )
        if foreach.chunk is not None:
            env = {**task.env, "SFLOW_WORKFLOW_OUTPUT_DIR": "/run"}
            task = msgspec.structs.replace(task, found=(OutputRule(name="n", kind="param"),), env=env)
        if draw(st.booleans()):
            late = LateItems(items=draw(st.sampled_from(list(LISTS))), max_items=10)
            new = [msgspec.structs.replace(task, foreach=msgspec.structs.replace(foreach, late=late))]
        else:
            items = draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
            groups = grouped(foreach, items)
            quorum = draw(st.sampled_from([None, Quorum(needed=len(items) // 2)]))
            first = msgspec.structs.replace(
                task, name=f"{name}_0", foreach=foreach, item=item_of(foreach, groups[0]), quorum=quorum
            )
            new = list(Copies(first, len(groups), None, groups))
        tasks = [
            msgspec.structs.replace(
                one,
                depends_on=tuple(
                    msgspec.structs.replace(each, is_group=True) if each.task == name else each
                    for each in one.depends_on
                ),
            )
            for one in tasks
        ]
        place = next(index for index, one in enumerate(tasks) if one.name == name)
        tasks[place : place + 1] = new
    return with_gather(draw, msgspec.structs.replace(plan, tasks=tuple(tasks)))


def with_gather(draw: st.DrawFn, plan: Plan) -> Plan:
    """Return the plan with what expressions see of its tasks, and one more task that is given the outputs of all copies."""
    bases = [
        task.base
        for task in plan.tasks
        if task.foreach is not None and task.foreach.chunk is None and task.is_replicated
    ]
    tasks = list(plan.tasks)
    if bases:
        base = draw(st.sampled_from(bases))
        tasks = [
            msgspec.structs.replace(task, outputs=(RATE,)) if task.base == base else task for task in tasks
        ]
        source = InputSource(text=f"{base}.outputs.rate", tasks=(), output="rate", is_list=True, group=base)
        taken = PlannedInput(name="all", variable="ALL", sources=(source,), is_required=False)
        needs = Dependency(task=base, until="finished", is_group=True)
        env = {"SFLOW_TASK_OUTPUT_DIR": "/run/gather"}
        tasks.append(msgspec.structs.replace(a_task(GATHER), depends_on=(needs,), inputs=(taken,), env=env))
    views: dict[str, object] = {task.name: {} for task in tasks}
    for base, members in msgspec.structs.replace(plan, tasks=tuple(tasks)).members().items():
        if members and members[0].foreach is not None:
            views[base] = [task.name for task in members]
    return msgspec.structs.replace(plan, tasks=tuple(tasks), task_views=views)


@hypothesis.settings(deadline=None, max_examples=80, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=listed(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_runs_with_items_end_and_their_copies_are_in_order(
    plan: Plan, seed: int, behaviour: Behaviour
) -> None:
    hypothesis.assume(fits(plan))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert fleet.finish is not None
    run = fleet.scheduler.run
    check_skips(run)
    check_gathered(run, fleet.driver.journal)
    check_copies(plan, run)
    check_order(run, fleet.driver.commands)
    check_growths(plan, fleet.driver.commands)
    for task in run.tasks:
        late = late_list(task.plan)
        if late is None:
            continue
        if late.size is not None:
            assert task.state is TaskState.COMPLETED or run.outcome is not None
            copies = [
                one for one in run.tasks if one.plan.base == task.plan.base and one.plan.item is not None
            ]
            assert task.plan.foreach is not None
            count = task.plan.foreach.copies(late.size)
            assert [one.plan.name for one in copies] == [f"{task.plan.name}_{i}" for i in range(count)]
            assert items_in(run.plan, task.plan.name) == ungrouped(
                one.plan.item for one in copies if one.plan.item
            )
            assert items_in(run.plan, task.plan.name) == LISTS[str(late.items)]
        else:
            assert task.state is not TaskState.COMPLETED
        assert task.last_reason is not None
        assert task.last_reason.text or task.state is TaskState.CANCELLED


@hypothesis.settings(deadline=None, max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=listed(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_a_journal_with_items_replays_to_the_same_plan(plan: Plan, seed: int, behaviour: Behaviour) -> None:
    hypothesis.assume(fits(plan))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert replay(plan, fleet.driver.journal, behaviour.fence_s, behaviour.window) == fleet.driver.commands
