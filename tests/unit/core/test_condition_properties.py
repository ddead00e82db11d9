"""Properties of whole runs with conditions, outputs and inputs: they end, and every skipped task says why."""

import hypothesis
import msgspec
from hypothesis import strategies as st

from protocol.messages.handover import FileSelection, OutputRule
from sflow_ctl.core.policy.dependencies import BY_CONDITION
from sflow_ctl.core.states import TERMINAL, Outcome, TaskState
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.results import InputSource, PlannedInput, PlannedWhen
from tests.unit.core.driver import replay
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.test_fleet_properties import behaviours, fits, plans

RULE = OutputRule(name="ckpt", kind="file", selection=FileSelection(globs=("*.pt",)))
CONDITIONS = (
    PlannedWhen(text="${{ 1 < 2 }}"),
    PlannedWhen(text="${{ 1 > 2 }}"),
    PlannedWhen(text="${{ 1 > 2 }}"),
    PlannedWhen(text="false", value=False),
)


@st.composite
def conditional(draw: st.DrawFn) -> Plan:
    """Draw a plan of which some tasks have conditions, outputs, inputs, and wait for settled ones."""
    plan = draw(plans())
    tasks = list(plan.tasks)
    some = st.sets(st.sampled_from(range(len(tasks))), max_size=4)
    for index in draw(some):
        env = {**tasks[index].env, "SFLOW_TASK_OUTPUT_DIR": f"/run/{tasks[index].name}"}
        tasks[index] = msgspec.structs.replace(tasks[index], found=(RULE,), env=env)
    jobs = {task.name for task in tasks if not task.is_service}  # a service ends when all else has
    for index in draw(some):
        depends_on = tuple(
            msgspec.structs.replace(one, until="settled")
            if one.task in jobs and one.until in ("available", "completed")
            else one
            for one in tasks[index].depends_on
            if not one.is_group
        )
        groups = tuple(one for one in tasks[index].depends_on if one.is_group)
        tasks[index] = msgspec.structs.replace(tasks[index], depends_on=(*depends_on, *groups))
    giving = {task.name for task in tasks if task.found}
    for index, task in enumerate(tasks):
        given = [one.task for one in task.depends_on if not one.is_group and one.task in giving]
        is_given = given and draw(st.sampled_from((True, False)))
        if is_given:
            source = InputSource(text=f"{given[0]}.outputs.ckpt", tasks=(given[0],), output="ckpt")
            taken = PlannedInput(name="c", variable="C", sources=(source,), is_required=False)
            env = {**task.env, "SFLOW_TASK_OUTPUT_DIR": f"/run/{task.name}"}
            tasks[index] = msgspec.structs.replace(task, inputs=(taken,), env=env)
    for index in draw(some):
        if tasks[index].finally_when is None:
            tasks[index] = msgspec.structs.replace(tasks[index], when=draw(st.sampled_from(CONDITIONS)))
    return msgspec.structs.replace(plan, tasks=tuple(tasks))


@hypothesis.settings(deadline=None, max_examples=100, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=conditional(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_runs_with_conditions_end_and_every_skip_has_a_reason(
    plan: Plan, seed: int, behaviour: Behaviour
) -> None:
    hypothesis.assume(fits(plan))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert fleet.finish is not None
    run = fleet.scheduler.run
    assert all(task.state in TERMINAL for task in run.tasks)
    assert not run.deciding or run.outcome is not None
    for task in run.tasks:
        if task.state is not TaskState.SKIPPED:
            continue
        assert task.last_reason is not None
        assert task.last_reason.text, f"{task.plan.name} does not say why it was skipped"
        if task.last_reason.word == "when":
            assert task.plan.when is not None
        if task.last_reason.word == "upstream_skipped":
            others = [run.tasks[index] for one in task.needs for index in one.members]
            assert any(one.last_reason is not None and one.last_reason.word in BY_CONDITION for one in others)


@hypothesis.settings(deadline=None, max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=conditional(), seed=st.integers(0, 2**32), behaviour=behaviours)
def test_a_journal_with_conditions_replays_to_the_same_commands(
    plan: Plan, seed: int, behaviour: Behaviour
) -> None:
    hypothesis.assume(fits(plan))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert replay(plan, fleet.driver.journal, behaviour.fence_s, behaviour.window) == fleet.driver.commands


@hypothesis.settings(deadline=None, max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=conditional(), seed=st.integers(0, 2**32), killed_at=st.floats(0.0, 20.0))
def test_conditions_alone_never_fail_a_run(plan: Plan, seed: int, killed_at: float) -> None:
    hypothesis.assume(fits(plan))
    tasks = tuple(
        msgspec.structs.replace(task, timeout_s=None, wait_s=None, is_main=False) for task in plan.tasks
    )
    plan = msgspec.structs.replace(plan, tasks=tasks)
    behaviour = Behaviour(max_delay_s=0.1, leftovers=0.2, takeovers=(killed_at, killed_at + 2.5))
    fleet = Fleet(plan, seed, behaviour)
    fleet.run()
    assert fleet.finish is not None
    assert fleet.finish.outcome is Outcome.COMPLETED
