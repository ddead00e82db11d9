"""Requests of operators, broken connections and suspensions together, weighed so that most runs have several of each."""

import random

import hypothesis
from hypothesis import strategies as st

from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.again import Restart
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.plans import a_plan, a_task
from tests.unit.core.test_fleet_properties import fits, plans


def wild(choices: random.Random) -> Behaviour:
    """Draw how wild a run is: one of some thousand of these finds what a single kind of fault does not."""
    choose = choices.choice
    return Behaviour(
        drop=choose([0.0, 0.0, 0.05, 0.3]),
        repeat=choose([0.0, 0.2]),
        max_delay_s=choose([0.001, 0.5]),
        keeps_order=choose([False, False, True]),
        fail=choose([0.0, 0.1, 0.5]),
        leftovers=choose([0.0, 0.3]),
        stuck=choose([0.0, 0.0, 0.3]),
        steal=choose([0.0, 0.5]),
        silence=choose([0.0, 0.5]),
        lost_logs=choose([0.0, 0.3]),
        disconnects=choose([1, 3, 8]),
        agent_crashes=choose([0, 0, 1, 2]),
        fence_s=choose([0.0, 15.0]),
        stop_at=choose([None, None, None, 0.05, 3.0]),
        window=choose([1, 2, 256]),
        requests=choose([4, 8, 12]),
        takeovers=choose([(), (), (), (0.05,), (2.0,), (1.0, 1.5)]),
        suspensions=tuple(
            (choices.random() * 10, choose([4.0, 20.0, 100.0, 900.0])) for _ in range(choose([1, 1, 2, 3]))
        ),
    )


@hypothesis.settings(deadline=None, max_examples=15, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(plan=plans(), seed=st.integers(0, 2**32))
def test_no_mixture_of_requests_and_faults_breaks_a_promise(plan: Plan, seed: int) -> None:
    """Each plan is run several times: to draw one takes longer than to run it."""
    hypothesis.assume(fits(plan))
    choices = random.Random(seed)
    for _ in range(8):
        fleet = Fleet(plan, choices.getrandbits(32), wild(choices))
        fleet.run(20_000.0)
        assert fleet.finish is not None


def test_a_process_outlives_sigkill_while_connections_break() -> None:
    """A shrunk example: its rank was open and without a process tree."""
    plan = a_plan(a_task("a"), a_task("b"), nodes=3)
    for seed in range(60):
        behaviour = Behaviour(
            max_delay_s=0.5,
            stuck=1.0,
            disconnects=8,
            requests=4,
            suspensions=((5.0, 900.0),),
            takeovers=(2.0,),
        )
        fleet = Fleet(plan, seed, behaviour)
        fleet.run(20_000.0)
        assert fleet.finish is not None


def test_a_restarted_task_and_what_needs_it_never_wait_for_each_others_place() -> None:
    """A shrunk example: `b` kept its place while it waited for `a`, which waited for room."""
    server = a_task("srv", service=True, restart=Restart(count=1))
    plan = a_plan(server, a_task("a"), a_task("b", "a"), max_running=2)
    for seed in range(60):
        fleet = Fleet(plan, seed, Behaviour(requests=6))
        fleet.run(20_000.0)
        assert fleet.finish is not None
