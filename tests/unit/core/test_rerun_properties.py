"""Properties of reruns: any small plan, a first run that fails or is killed, any choice of its tasks, then the rerun."""

import hypothesis
from hypothesis import strategies as st

from sflow_ctl.core.actions.resume import PriorResult
from sflow_ctl.core.states import TERMINAL, Outcome, TaskState
from sflow_ctl.plan.graph import dependency_names
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.selecting.rerun import Before, Rerun, RerunChoice, rerun
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.test_fleet_properties import fits, plans


def ended(plan: Plan, seed: int, fail: float, dies_at: float | None) -> Fleet:
    """A run whose controller and agents are gone, with whatever states its tasks had."""
    fleet = Fleet(plan, seed, Behaviour(max_delay_s=0.1, keeps_order=True, fail=fail))
    fleet.run(dies_at=dies_at)
    fleet.driver.check_nothing_ignored()
    return fleet


def chosen(fleet: Fleet, choice: RerunChoice) -> tuple[Rerun, dict[str, PriorResult]]:
    """What a rerun does, and what it gives the scheduler."""
    tasks = {task.plan.name: task for task in fleet.scheduler.run.tasks}
    completed = [name for name, task in tasks.items() if task.state is TaskState.COMPLETED]
    states = {name: task.state for name, task in tasks.items()}
    found = rerun(fleet.plan, Before(states, completed, {}, {}), choice)
    earlier = {
        name: PriorResult(
            task.state,
            task.attempt.number,
            is_done=name in found.kept,
            outputs={"rate": 1.5},
            why_again=found.again.get(name, ""),
            why_left=found.left.get(name, ""),
            is_missed=name in found.missed,
        )
        for name, task in tasks.items()
    }
    return found, earlier


@hypothesis.settings(deadline=None, max_examples=150, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    plan=plans(),
    seed=st.integers(0, 2**32),
    fail=st.sampled_from([0.0, 0.3, 0.6]),
    dies_at=st.sampled_from([None, None, 0.2, 2.0, 6.0]),
    is_only=st.booleans(),
    takeovers=st.sampled_from([(), (1.0,), (0.5, 4.0)]),
    data=st.data(),
)
def test_a_rerun_runs_what_is_chosen_and_all_that_follows_once(
    plan: Plan,
    seed: int,
    fail: float,
    dies_at: float | None,
    is_only: bool,
    takeovers: tuple[float, ...],
    data: st.DataObject,
) -> None:
    hypothesis.assume(fits(plan))
    first = ended(plan, seed, fail, dies_at)
    names = [task.name for task in plan.tasks if task.finally_when is None]
    hypothesis.assume(names)
    wanted = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    found, earlier = chosen(first, RerunChoice(tuple(wanted), is_only))

    assert set(wanted) <= found.again.keys() | found.refused.keys()
    assert not found.again.keys() & found.left.keys()
    assert not found.again.keys() & found.kept
    _check_followers(plan, found, is_only=is_only)
    _check_reasons(plan, found, wanted, earlier, is_only=is_only)
    hypothesis.assume(not found.refused)

    behaviour = Behaviour(max_delay_s=0.1, keeps_order=True, fail=fail / 2, takeovers=takeovers)
    second = Fleet(plan, seed + 1, behaviour, earlier)
    second.run()
    started = [rank for agent in second.agents for rank in agent.started]
    assert len(started) == len(set(started)), "a rank was started twice"
    before = {name: one.attempt for name, one in earlier.items()}
    for rank in started:
        assert rank.attempt.number > before[rank.attempt.task], (
            "the number of an earlier attempt is used again"
        )
    ran = {rank.attempt.task for rank in started}
    assert not ran & found.left.keys()
    assert not ran & found.kept
    tasks = {task.plan.name: task for task in second.scheduler.run.tasks}
    assert all(task.state in TERMINAL for task in tasks.values())
    assert second.finish is not None
    if found.missed:
        assert second.finish.outcome is not Outcome.COMPLETED
    if second.finish.outcome is Outcome.COMPLETED:
        happy = {name for name in found.again if not plan_of(plan, name)}
        assert all(tasks[name].state is not TaskState.FAILED for name in happy)


def plan_of(plan: Plan, name: str) -> bool:
    """Whether a failure of the task is no failure of the run."""
    return next(task for task in plan.tasks if task.name == name).on_failure == "continue"


def _check_reasons(
    plan: Plan, found: Rerun, wanted: list[str], earlier: dict[str, PriorResult], *, is_only: bool
) -> None:
    """What runs again is chosen or follows from that, and has what it needs; what is left out for good is missed."""
    members = plan.members()
    services = {task.name for task in plan.tasks if task.is_service}
    for task in plan.tasks:
        if task.finally_when is not None:
            assert task.name in found.again, "what runs at the end of every run does not run again"
            assert task.name not in found.kept | found.missed
            continue
        if task.name in found.again:
            follows = any(one in found.again for one in dependency_names(task, members))
            assert task.name in wanted or (follows and not is_only)
            for need in task.depends_on:
                if need.until not in ("available", "completed"):
                    continue
                names = [one.name for one in members[need.task]] if need.is_group else [need.task]
                for name in {*names} - services:
                    assert name in found.again or earlier[name].state is TaskState.COMPLETED
        is_missable = task.on_failure != "continue" and task.name not in services
        if task.name in found.left and is_missable and earlier[task.name].state is not TaskState.SKIPPED:
            assert task.name in found.missed


def _check_followers(plan: Plan, found: Rerun, *, is_only: bool) -> None:
    """What depends on a task that runs again runs again, or is left because of something else that does not."""
    members = plan.members()
    for task in plan.tasks:
        if task.finally_when is not None or not any(
            one in found.again for one in dependency_names(task, members)
        ):
            continue
        if not is_only:
            assert (
                task.name in found.again or task.name in found.refused or " needs " in found.left[task.name]
            )


def test_the_selection_is_seen_to_fail_when_a_follower_is_left_out() -> None:
    """The property above is not empty: a selection that forgets a follower does not hold it."""
    from tests.unit.core.plans import a_plan, a_task

    plan = a_plan(a_task("a"), a_task("b", "a"))
    forgetful = Rerun({"a": "it is chosen"}, frozenset({"b"}), {}, {}, frozenset(), ())
    try:
        _check_followers(plan, forgetful, is_only=False)
    except KeyError:
        return
    raise AssertionError("a follower that keeps its result was not noticed")
