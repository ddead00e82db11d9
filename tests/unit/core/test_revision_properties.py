"""Properties of runs whose plan is changed while they live: any small plan, other plans at any time, any seed."""

import itertools

import hypothesis
import msgspec
from hypothesis import strategies as st

from sflow_ctl.core.commands import AnswerRequest, Command
from sflow_ctl.core.events import OperatorRequest
from sflow_ctl.core.requests import Apply
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import TERMINAL
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.parts.again import Retries
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.plans import a_plan, a_task
from tests.unit.core.test_fleet_properties import fits, plans


class RevisedFleet(Fleet):
    """A fleet whose run gets other plans."""

    def __init__(self, plan: Plan, seed: int, behaviour: Behaviour, applies: int) -> None:
        super().__init__(plan, seed, behaviour)
        self._numbers = itertools.count()
        self.affected: set[str] = set()
        """Tasks that a revision has started again, removed or taken back."""
        self.applied = 0
        for _ in range(applies):
            self._at(self._random.random() * 8, self._apply)

    def _apply(self) -> None:
        if self.finish is not None:
            return
        number, base = next(self._numbers), self.driver.run.plan.revision
        source = f"{base + 1}-{number}"
        self.plans[source] = self._other_plan(number)
        event = OperatorRequest(id=f"a{number}", by="op", action=Apply(source=source, base=base))
        self._tell(event)
        if self._random.random() < 0.3:
            self._tell(event)  # a repetition

    def _perform(self, command: Command) -> None:
        if isinstance(command, AnswerRequest) and not command.is_repeated and not command.answer.error:
            self.applied += 1
            effects = command.answer.effects
            self.affected |= {one.task for one in effects if not one.text.startswith("continues")}
        super()._perform(command)

    def _other_plan(self, number: int) -> Plan:
        chance = self._random.random
        tasks = [task.wanted for task in self.driver.run.tasks if not task.wanted.removed_in]
        needed = {one.task for task in tasks for one in task.depends_on}
        kept = [task for task in tasks if chance() > 0.15 or {task.name, task.base} & needed]
        names = {task.name for task in kept}
        known = names | {task.base for task in kept}
        back = [
            task
            for task in self.plan.tasks
            if task.name not in names and {one.task for one in task.depends_on} <= known and chance() < 0.5
        ]
        first = sorted(task.name for task in kept if task.finally_when is None)[:1]  # as the planner demands
        new = [a_task(f"new{number}", *first)] if chance() < 0.4 else []
        return msgspec.structs.replace(
            self.driver.run.plan,
            tasks=tuple(self._other(task, number) for task in (*kept, *back, *new)),
            revision=1,
            timeout_s=self.driver.run.plan.timeout_s,
        )

    def _other(self, task: PlannedTask, number: int) -> PlannedTask:
        chance = self._random.random()
        if chance < 0.25:
            return msgspec.structs.replace(task, script=f"s{number}", argv=("bash", "-c", f"s{number}"))
        if chance < 0.4:
            return msgspec.structs.replace(task, retries=Retries(count=number), timeout_s=40.0 + number)
        return task


BEHAVIOURS = st.builds(
    Behaviour,
    max_delay_s=st.sampled_from([0.001, 0.5]),
    keeps_order=st.just(True),
    fail=st.sampled_from([0.0, 0.1, 0.5]),
    leftovers=st.sampled_from([0.0, 0.3]),
    disconnects=st.sampled_from([0, 0, 2]),
    agent_crashes=st.sampled_from([0, 0, 1]),
    stop_at=st.sampled_from([None, None, 3.0]),
    window=st.sampled_from([1, 256]),
    requests=st.sampled_from([0, 0, 4]),
    takeovers=st.sampled_from([(), (2.0,), (1.0, 4.0)]),
)


@hypothesis.settings(deadline=None, max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32), behaviour=BEHAVIOURS, applies=st.integers(1, 5))
def test_a_run_with_other_plans_ends_and_replays(
    plan: Plan, seed: int, behaviour: Behaviour, applies: int
) -> None:
    hypothesis.assume(fits(plan))
    fleet = RevisedFleet(plan, seed, behaviour, applies)
    fleet.run()
    assert all(task.state in TERMINAL for task in fleet.scheduler.run.tasks)
    assert fleet.scheduler.run.revising is None
    again = Scheduler(
        plan,
        evaluator=EVALUATOR,
        fence_s=behaviour.fence_s,
        max_unanswered=behaviour.window,
        plans=fleet.plans.__getitem__,
    )
    commands = [one for now, event in fleet.driver.journal for one in again.handle(event, now)]
    assert commands == fleet.driver.commands


@hypothesis.settings(deadline=None, max_examples=30, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32), applies=st.integers(1, 4))
def test_what_a_plan_does_not_change_is_never_started_again(plan: Plan, seed: int, applies: int) -> None:
    hypothesis.assume(fits(plan))
    hypothesis.assume(not any(task.timeout_s or task.wait_s or task.is_main for task in plan.tasks))
    fleet = RevisedFleet(plan, seed, Behaviour(max_delay_s=0.1, keeps_order=True), applies)
    fleet.run()
    tasks = fleet.scheduler.run.tasks
    assert {task.plan.name for task in tasks if task.attempt.number > 1} <= fleet.affected


def test_most_plans_of_these_fleets_are_applied() -> None:
    """Else the properties would say nothing."""
    plan = a_plan(a_task("srv", service=True), a_task("a", "srv"), a_task("b", "a"), nodes=3, gpus=4)
    fleets = [RevisedFleet(plan, seed, Behaviour(max_delay_s=0.1, keeps_order=True), 4) for seed in range(20)]
    for fleet in fleets:
        fleet.run()
    assert sum(fleet.applied for fleet in fleets) > 20
    assert sum(len(fleet.affected) for fleet in fleets) > 20
