"""Tasks of which a part of the copies is enough: what failures mean, when it is decided, and what follows."""

from pathlib import Path

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from sflow_ctl.core.states import TERMINAL, Outcome, TaskState
from sflow_ctl.plan.model import Dependency, Plan
from sflow_ctl.plan.parts.again import Quorum, Retries
from sflow_ctl.plan.words import OnFailure
from tests.unit.core.driver import Driver
from tests.unit.core.fleet import Behaviour, Fleet
from tests.unit.core.plans import a_plan, a_task, exited, hello, started
from tests.unit.planner.planning import findings_of, plan_of

S = TaskState


def plan(quorum: Quorum, copies: int = 4, on_failure: OnFailure = "cancel", retries: int = 0) -> Plan:
    """Copies `a_0` ... of one task, and `b` after enough of them."""
    tasks = [
        msgspec.structs.replace(
            a_task(f"a_{index}", base="a", on_failure=on_failure),
            quorum=quorum, is_replicated=True, replica_index=index, retries=Retries(count=retries),
        )
        for index in range(copies)
    ]  # fmt: skip
    needs = (Dependency(task="a", is_group=True), Dependency(task="a", until="finished", is_group=True))
    return a_plan(*tasks, msgspec.structs.replace(a_task("b"), depends_on=needs))


def begun(quorum: Quorum, copies: int = 4, on_failure: OnFailure = "cancel") -> Driver:
    drive = Driver(plan(quorum, copies, on_failure))
    drive(hello(), *(started(f"a_{index}") for index in range(copies)))
    return drive


def states(drive: Driver) -> list[str]:
    return [task.state.value for task in drive.run.tasks]


def test_failures_of_others_do_not_count_and_dependants_wait_for_the_end_of_all() -> None:
    drive = begun(Quorum(needed=2))
    drive(exited("a_0", 1), exited("a_1"), exited("a_2"))
    assert drive.state("b") is S.WAITING, "one copy has not ended"
    drive(exited("a_3", 1))
    assert drive.state("b") is S.STARTING
    drive(started("b"), exited("b"))
    assert drive.leave().outcome is Outcome.COMPLETED


def test_as_soon_as_too_few_can_complete_the_failure_policy_applies() -> None:
    drive = begun(Quorum(needed=3))
    drive(exited("a_0", 1))
    assert drive.run.outcome is None
    drive(exited("a_1", 1))
    assert drive.run.outcome is Outcome.FAILED
    assert drive.run.cause is not None
    assert drive.run.cause.text == (
        "task a_1 failed: exit status 1; only 2 of its 4 copies could still complete, and 3 must"
    )
    drive(exited("a_2", signal=15), exited("a_3", signal=15))
    assert drive.leave().outcome is Outcome.FAILED


@pytest.mark.parametrize("stops", [True, False])
def test_the_rest_is_stopped_or_finishes(stops: bool) -> None:
    drive = begun(Quorum(needed=3, stops_if_unreachable=stops), on_failure="isolate")
    drive(exited("a_0", 1), exited("a_1", 1))
    assert states(drive)[2:4] == [("stopping" if stops else "running")] * 2
    assert drive.state("b") is S.SKIPPED
    code, signal = (None, 15) if stops else (0, None)
    drive(exited("a_2", code, signal=signal), exited("a_3", code, signal=signal))
    assert states(drive)[2:4] == [("cancelled" if stops else "completed")] * 2
    assert drive.leave().outcome is Outcome.FAILED


def test_with_enough_copies_the_rest_may_be_stopped() -> None:
    drive = begun(Quorum(needed=2, stops_when_reached=True))
    drive(exited("a_2"), exited("a_3"))
    assert states(drive)[:2] == ["stopping", "stopping"]
    drive(exited("a_0", signal=15), exited("a_1", signal=15))
    assert states(drive)[:2] == ["cancelled", "cancelled"]
    assert drive.state("b") is S.STARTING
    drive(started("b"), exited("b"))
    assert drive.leave().outcome is Outcome.COMPLETED


def test_none_may_be_needed() -> None:
    drive = begun(Quorum(needed=0), copies=2)
    drive(exited("a_0", 1), exited("a_1", 1))
    assert drive.state("b") is S.STARTING
    drive(started("b"), exited("b"))
    assert drive.leave().outcome is Outcome.COMPLETED


@hypothesis.settings(deadline=None, max_examples=100, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    copies=st.integers(1, 7),
    share=st.floats(0, 1),
    on_failure=st.sampled_from(["cancel", "isolate", "drain", "continue"]),
    flags=st.tuples(st.booleans(), st.booleans()),
    retries=st.integers(0, 1),
    fail=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    takeovers=st.sampled_from([(), (0.5,), (1.0, 3.0)]),
    seed=st.integers(0, 2**32),
)
def test_a_run_with_copies_ends_as_its_quorum_says(
    copies: int,
    share: float,
    on_failure: OnFailure,
    flags: tuple[bool, bool],
    retries: int,
    fail: float,
    takeovers: tuple[float, ...],
    seed: int,
) -> None:
    quorum = Quorum(needed=round(share * copies), stops_if_unreachable=flags[0], stops_when_reached=flags[1])
    behaviour = Behaviour(max_delay_s=0.1, keeps_order=True, fail=fail, takeovers=takeovers)
    fleet = Fleet(plan(quorum, copies, on_failure, retries), seed, behaviour)
    fleet.run()
    tasks = {task.plan.name: task for task in fleet.scheduler.run.tasks}
    done = sum(task.state is S.COMPLETED for name, task in tasks.items() if name != "b")
    assert all(task.state in TERMINAL for task in tasks.values())
    ran = tasks["b"].attempt.number > 0
    assert ran == (done >= quorum.needed), (done, quorum)
    assert fleet.finish is not None
    has_failed = fleet.finish.outcome is not Outcome.COMPLETED
    is_own = ran and tasks["b"].state is not S.COMPLETED
    assert has_failed == (is_own or (not ran and on_failure != "continue"))


FILE = "workflow: {{name: w, tasks: [{{name: a, script: [x], replicas: 10{}}}, {{name: b, script: [x], depends_on: [a]}}]}}"


@pytest.mark.parametrize(
    ("success", "needed"),
    [
        ("min_count: 3", 3),
        ("min_ratio: 0.7", 7),
        ("min_ratio: 0.71", 8),
        ("min_count: 9, min_ratio: 0.1", 9),
        ("min_count: 0", 0),
        ("min_ratio: '${{ 1 / 2 }}'", 5),
    ],
)
def test_count_and_ratio_are_planned(tmp_path: Path, success: str, needed: int) -> None:
    planned = plan_of(tmp_path, FILE.format(f", success: {{{success}}}"))
    assert planned.tasks[0].quorum == Quorum(needed=needed)
    assert planned.tasks[0].success is None
    assert [(one.until, one.is_group) for one in planned.tasks[-1].depends_on] == [
        ("available", True), ("finished", True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (", success: {min_count: 11}", "11 copies must complete, and there are 10"),
        (", success: {min_ratio: 1.5}", "min_ratio must be from 0 to 1, is 1.5"),
        (", success: {min_ratio: many}", "min_ratio must be from 0 to 1, is many"),
        (", success: {min_count: -1}", "success.min_count must be at least 0"),
        (
            ", kind: service, success: {min_count: 1}",
            "are for tasks with copies that run side by side and end",
        ),
    ],
)
def test_what_is_wrong_with_them_is_said(tmp_path: Path, more: str, said: str) -> None:
    (finding,) = findings_of(tmp_path, FILE.format(more))
    assert said in finding.what
