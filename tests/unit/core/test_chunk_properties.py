"""Properties of runs whose copies are for several items each: lists stay aligned, and items count one by one."""

import hypothesis
import msgspec
from hypothesis import strategies as st

from protocol.messages.handover import OutputRule
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.copies.task_list import Copies
from sflow_ctl.plan.model import Dependency, Placement, Plan
from sflow_ctl.plan.parts.again import Quorum
from sflow_ctl.plan.parts.cells import PlannedForeach, item_of
from sflow_ctl.plan.parts.items import grouped
from tests.unit.core.driver import replay
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.growth_checks import check_gathered, check_skips
from tests.unit.core.plans import a_plan, a_task
from tests.unit.core.test_fleet_properties import behaviours

ANYWHERE = Placement(nodes=(0, 1), is_flexible=True)
RULE = OutputRule(name="n", kind="param")


@st.composite
def chunked(draw: st.DrawFn) -> Plan:
    """Draw a task for chunks of items, and one that needs enough of the items."""
    items = list(range(draw(st.integers(1, 12))))
    foreach = PlannedForeach(
        chunk=draw(st.integers(1, 6)),
        seed=draw(st.sampled_from([None, 1, 2, 3])),
        max_parallel=draw(st.sampled_from([None, 1, 2])),
    )
    groups = grouped(foreach, items)
    needed = draw(st.sampled_from([None, *items]))
    env = {"SFLOW_WORKFLOW_OUTPUT_DIR": "/run"}
    retries = draw(st.integers(0, 2))
    first = msgspec.structs.replace(
        a_task("many_0", base="many", placement=ANYWHERE, retries=retries, on_failure="isolate"),
        is_replicated=True,
        foreach=foreach,
        item=item_of(foreach, groups[0]),
        found=(RULE,),
        env=env,
        quorum=None
        if needed is None
        else Quorum(
            needed=needed, stops_if_unreachable=draw(st.booleans()), stops_when_reached=draw(st.booleans())
        ),
    )
    needs = [Dependency(task="many", until="completed", is_group=True)]
    if needed is not None:
        needs.append(Dependency(task="many", until="finished", is_group=True))
    after = msgspec.structs.replace(a_task("after", placement=ANYWHERE), depends_on=tuple(needs))
    return a_plan(*Copies(first, len(groups), None, groups), after, nodes=2)


@hypothesis.settings(deadline=None, max_examples=300, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=chunked(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_lists_are_aligned_and_what_follows_runs_once_enough_items_are_done(
    plan: Plan, seed: int, behaviour: Behaviour
) -> None:
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    run = fleet.scheduler.run
    check_skips(run)
    check_gathered(run)
    *many, after = run.tasks
    quorum = plan.tasks[0].quorum
    if quorum is None or behaviour.requests or run.outcome is None:
        return
    done = sum(task.share if task.state is TaskState.COMPLETED else task.share_left for task in many)
    if after.attempt.number:
        assert done >= quorum.needed
    elif after.last_reason is not None and after.last_reason.word == "upstream":
        assert done < quorum.needed


@hypothesis.settings(deadline=None, max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=chunked(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_a_journal_with_chunks_replays_to_the_same_commands(
    plan: Plan, seed: int, behaviour: Behaviour
) -> None:
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert replay(plan, fleet.driver.journal, behaviour.fence_s, behaviour.window) == fleet.driver.commands
