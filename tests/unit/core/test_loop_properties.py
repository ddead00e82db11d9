"""Properties of whole runs with blocks, loops and lists of items: they end, skips have reasons, and journals replay."""

import hypothesis
import msgspec
from hypothesis import strategies as st

from sflow_ctl.core.model.run import Run
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from sflow_ctl.plan.parts.cells import BlockCall, LateItems, PlannedBlock, PlannedForeach, PlannedLoop
from sflow_ctl.plan.results import PlannedWhen
from sflow_ctl.plan.words import Until
from tests.unit.core.driver import replay
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.growth_checks import (
    check_copies,
    check_gathered,
    check_growths,
    check_order,
    check_skips,
)
from tests.unit.core.plans import a_task
from tests.unit.core.test_fleet_properties import behaviours, fits
from tests.unit.core.test_item_properties import listed, may_have_items

HEAD = PlannedBlock(inputs={"n": ("int", 0)}, outputs={"n": "${{ block.inputs.n + 1 }}"})
LISTS = ("${{ [] }}", "${{ [block.iteration, 2] }}")
CONDITIONS = (None, None, PlannedWhen(text="${{ block.inputs.n != 1 }}"))


@st.composite
def bodies(draw: st.DrawFn, name: str) -> tuple[PlannedTask, ...]:
    """Draw the tasks of a block."""
    first = a_task(
        f"{name}~a",
        retries=draw(st.integers(0, 1)),
        on_failure=draw(st.sampled_from(["cancel", "isolate", "continue"])),
    )
    first = msgspec.structs.replace(first, when=draw(st.sampled_from(CONDITIONS)))
    if draw(st.booleans()):
        late = LateItems(items=draw(st.sampled_from(LISTS)), max_items=5)
        first = msgspec.structs.replace(first, is_replicated=True, foreach=PlannedForeach(late=late))
    until: Until = draw(st.sampled_from(["completed", "settled"]))
    needs = Dependency(task=first.name, until=until, is_group=first.is_replicated)
    second = msgspec.structs.replace(a_task(f"{name}~b"), depends_on=(needs,))
    return (first, second) if draw(st.booleans()) else (first,)


@st.composite
def looped(draw: st.DrawFn) -> Plan:
    """Draw a plan of which some tasks stand for blocks, which may be repeated, and be inside of each other."""
    plan = draw(listed())
    tasks = list(plan.tasks)
    inner, outer = draw(bodies("inner")), draw(bodies("outer"))
    if draw(st.booleans()):
        call = BlockCall(block="inner", given={"n": "${{ block.inputs.n }}"}, own_needs=0)
        outer = (*outer, msgspec.structs.replace(a_task("outer~c"), block=call))
    for index in draw(st.sets(st.sampled_from(range(len(tasks))), max_size=2)):
        task = tasks[index]
        if not may_have_items(tasks, task) or task.quorum is not None:
            continue
        loop = None
        if draw(st.booleans()):
            limit = draw(st.integers(1, 3))
            until = draw(st.sampled_from([None, "${{ last.outputs.n >= 2 }}"]))
            fails = draw(st.booleans())
            carry = {"n": "${{ last.outputs.n }}"}
            loop = PlannedLoop(max_iterations=limit, until=until, carry=carry, fails_at_limit=fails)
        block = draw(st.sampled_from(["inner", "outer"]))
        call = BlockCall(block=block, loop=loop, own_needs=len(task.depends_on))
        tasks[index] = msgspec.structs.replace(task, block=call, outputs=(), retries=type(task.retries)())
    blocks = {"inner": HEAD, "outer": HEAD}
    return msgspec.structs.replace(
        plan, tasks=tuple(tasks), blocks=blocks, block_tasks={"inner": inner, "outer": outer}
    )


@hypothesis.settings(deadline=None, max_examples=80, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=looped(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_runs_with_loops_end_and_every_skip_has_a_reason(plan: Plan, seed: int, behaviour: Behaviour) -> None:
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
    check_needs_of_blocks(plan, run)
    for task in run.tasks:
        call = task.plan.block
        if call is None or call.iteration is None:
            continue
        frames = [
            one.plan.frame for one in run.tasks if one.plan.frame and one.plan.frame.owner == task.plan.name
        ]
        assert {frame.iteration for frame in frames} == set(range(call.iteration + 1))
        assert [frame.inputs["n"] for frame in frames] == [
            frames[0].inputs["n"] + frame.iteration for frame in frames
        ]
        is_done = task.state is TaskState.COMPLETED
        if is_done:
            assert run.outputs[task.plan.name] == call.outputs == {"n": call.inputs["n"] + 1}
        last, ends_well = end_of(call, frames[0].inputs["n"])
        assert call.iteration < last
        if is_done:
            assert (call.iteration, ends_well) == (last - 1, True)
        elif task.last_reason is not None and task.last_reason.word == "input_error":
            assert (call.iteration, ends_well) == (last - 1, False)


def end_of(call: BlockCall, start: int) -> tuple[int, bool]:
    """Return how many iterations a block has that begins with a number, and whether it is a success."""
    loop = call.loop
    if loop is None:
        return 1, True
    wanted = loop.max_iterations if loop.until is None else max(1, 2 - start)
    return min(wanted, loop.max_iterations), wanted <= loop.max_iterations or not loop.fails_at_limit


def check_needs_of_blocks(first: Plan, run: Run) -> None:
    """Assert that the tasks of a block wait for what the task waits for that stands for it."""
    written = {task.name: task for task in first.tasks}
    for task in run.plan.tasks:
        owner = written.get(task.frame.owner) if task.frame is not None else None
        if owner is not None and task.item is None:
            needs = {(one.task, one.until) for one in task.depends_on}
            assert {(one.task, one.until) for one in owner.depends_on} <= needs


@hypothesis.settings(deadline=None, max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=looped(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_a_journal_with_loops_replays_to_the_same_plan(plan: Plan, seed: int, behaviour: Behaviour) -> None:
    hypothesis.assume(fits(plan))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert replay(plan, fleet.driver.journal, behaviour.fence_s, behaviour.window) == fleet.driver.commands
