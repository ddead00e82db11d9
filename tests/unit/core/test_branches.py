"""Tasks that wait for a failure or an end run under every failure policy (public report 9)."""

import msgspec
import pytest

from sflow_ctl.core.commands import FinishRun, Warn
from sflow_ctl.core.events import StopRequested, WakeUp
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Dependency, Placement, PlannedTask
from sflow_ctl.plan.words import OnFailure, Until
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, ready

S = TaskState
STOPPING_POLICIES: list[OnFailure] = ["cancel", "drain"]
POLICIES: list[OnFailure] = ["cancel", "drain", "isolate", "continue"]


def after(until: Until, name: str, *targets: str, is_group: bool = False) -> PlannedTask:
    """A task that waits until each of the targets has come as far."""
    dependencies = tuple(Dependency(task=target, until=until, is_group=is_group) for target in targets)
    return msgspec.structs.replace(a_task(name), depends_on=dependencies)


@pytest.mark.parametrize("until", ["failed", "finished"])
@pytest.mark.parametrize("policy", POLICIES)
def test_public_09_what_waits_for_a_failure_runs_under_every_policy(policy: OnFailure, until: Until) -> None:
    plan = a_plan(
        a_task("a", on_failure=policy), after(until, "rescue", "a"), a_task("never", "a"), a_task("b")
    )
    drive = Driver.joined(plan)
    drive.start("a", "b")
    assert "0: spawn rescue#1" in drive.end("a", 1)
    assert drive.states("rescue", "b") == [S.STARTING, S.RUNNING]  # the rest is not stopped before
    assert drive.state("never") in (S.CANCELLED, S.SKIPPED)
    drive.start("rescue")
    drive.end("rescue")
    if drive.state("b") is S.STOPPING:
        assert policy == "cancel"
        drive(exited("b", signal=15))
    else:
        drive.end("b")
    finish = drive.leave()
    assert drive.state("rescue") is S.COMPLETED
    assert finish.outcome is (Outcome.COMPLETED if policy == "continue" else Outcome.FAILED)
    assert policy == "continue" or (finish.cause is not None and finish.cause.task == "a")


@pytest.mark.parametrize("policy", STOPPING_POLICIES)
def test_public_09_what_follows_the_branch_runs_too_and_its_failure_changes_nothing(
    policy: OnFailure,
) -> None:
    plan = a_plan(
        a_task("a", on_failure=policy),
        after("failed", "rescue", "a"),
        a_task("report", "rescue"),
        after("failed", "alarm", "report"),
    )
    drive = Driver.joined(plan)
    drive.start("a")
    drive.end("a", 1)
    drive.start("rescue")
    drive.end("rescue")
    drive.start("report")
    assert "0: spawn alarm#1" in drive.end("report", 2)
    drive.start("alarm")
    drive.end("alarm")
    finish = drive.leave()
    assert finish.cause is not None
    assert finish.cause.task == "a"


@pytest.mark.parametrize("policy", STOPPING_POLICIES)
def test_public_09_a_branch_task_has_its_retries(policy: OnFailure) -> None:
    rescue = msgspec.structs.replace(after("failed", "rescue", "a"), retries=a_task("x", retries=1).retries)
    drive = Driver.joined(a_plan(a_task("a", on_failure=policy), rescue))
    drive.start("a")
    drive.end("a", 1)
    drive.start("rescue")
    drive.end("rescue", 1)
    assert drive.state("rescue") is S.WAITING
    assert "0: spawn rescue#2" in drive.wake()
    drive.start("rescue")
    drive.end("rescue")
    drive.leave()
    assert drive.state("rescue") is S.COMPLETED


@pytest.mark.parametrize("policy", STOPPING_POLICIES)
def test_public_09_a_service_that_the_branch_needs_is_stopped_after_it(policy: OnFailure) -> None:
    rescue = msgspec.structs.replace(
        after("failed", "rescue", "a"),
        depends_on=(Dependency(task="a", until="failed"), Dependency(task="db")),
        placement=Placement(nodes=(0,), gpus=(0,), gpus_per_node=1),
    )
    hog = a_task("hog", service=True, placement=Placement(nodes=(0,), gpus=(0,), gpus_per_node=1))
    drive = Driver.joined(
        a_plan(a_task("db", service=True), hog, a_task("a", on_failure=policy), rescue, gpus=1)
    )
    drive.serve("db", "hog")
    drive.start("a")
    lines = drive.end("a", 1)
    assert len(lines.of(Warn)) == (policy == "drain")
    assert "0: stop hog#1 5" in lines  # there is no room beside it
    assert drive.state("db") is S.READY
    assert "0: spawn rescue#1" in drive(exited("hog", signal=15))
    drive.start("rescue")
    assert "0: stop db#1 5" in drive.end("rescue")
    drive(exited("db", signal=15))
    drive.leave()


@pytest.mark.parametrize("policy", STOPPING_POLICIES)
def test_public_09_a_ready_service_of_the_branch_does_not_keep_the_run_alive(policy: OnFailure) -> None:
    dependencies = (Dependency(task="a", until="finished"),)
    server = msgspec.structs.replace(a_task("server", service=True), depends_on=dependencies)
    drive = Driver.joined(a_plan(a_task("a", on_failure=policy), server, a_task("client", "server")))
    drive.start("a")
    assert "0: spawn server#1" in drive.end("a", 1)
    drive.start("server")
    drive(ready("server"))
    drive.start("client")
    assert drive.state("server") is S.READY
    drive.end("client")
    assert drive.state("server") is S.STOPPING
    drive(exited("server", signal=15))
    assert drive.leave().outcome is Outcome.FAILED


def test_public_09_an_end_that_the_stop_brings_about_counts_for_the_branch() -> None:
    both = after("finished", "both", "a", "b")
    drive = Driver.joined(a_plan(a_task("a"), a_task("b"), both))
    drive.start("a", "b")
    assert "0: stop b#1 5" in drive.end("a", 1)
    assert "0: spawn both#1" in drive(exited("b", signal=15))
    drive.start("both")
    drive.end("both")
    drive.leave()
    assert drive.states("b", "both") == [S.CANCELLED, S.COMPLETED]


def test_public_09_a_task_that_can_never_start_because_of_the_failure_has_ended_too() -> None:
    drive = Driver.joined(a_plan(a_task("a"), a_task("b", "a"), after("finished", "cleanup", "b")))
    drive.start("a")
    assert "0: spawn cleanup#1" in drive.end("a", 1)
    drive.start("cleanup")
    drive.end("cleanup")
    drive.leave()


def test_public_09_a_branch_that_needs_a_cancelled_task_to_complete_does_not_run() -> None:
    mixed = msgspec.structs.replace(
        a_task("mixed"),
        depends_on=(Dependency(task="a", until="failed"), Dependency(task="b", until="completed")),
    )
    drive = Driver.joined(a_plan(a_task("a"), a_task("b"), mixed))
    drive.start("a", "b")
    assert "mixed#0 waiting->cancelled fail_fast" in drive.end("a", 1)
    drive(exited("b", signal=15))
    drive.leave()


def test_public_09_in_a_drain_the_branch_waits_for_what_still_runs() -> None:
    mixed = msgspec.structs.replace(
        a_task("mixed"),
        depends_on=(Dependency(task="a", until="failed"), Dependency(task="b", until="completed")),
    )
    drive = Driver.joined(a_plan(a_task("a", on_failure="drain"), a_task("b"), mixed))
    drive.start("a", "b")
    drive.end("a", 1)
    assert "0: spawn mixed#1" in drive.end("b")
    drive.start("mixed")
    drive.end("mixed")
    drive.leave()


def test_public_09_a_second_failure_in_a_drain_has_its_own_branch() -> None:
    plan = a_plan(
        a_task("a", on_failure="drain"),
        a_task("b", on_failure="drain"),
        after("failed", "rescue", "b"),
        a_task("c"),
    )
    drive = Driver.joined(plan)
    drive.start("a", "b", "c")
    drive.end("a", 1)
    assert drive.state("rescue") is S.WAITING
    assert "0: spawn rescue#1" in drive.end("b", 1)
    drive.end("c")
    drive.start("rescue")
    drive.end("rescue")
    drive.leave()


def test_public_09_a_failure_that_did_not_happen_in_a_drain_is_not_waited_for() -> None:
    plan = a_plan(a_task("a", on_failure="drain"), a_task("b"), after("failed", "rescue", "b"))
    drive = Driver.joined(plan)
    drive.start("a", "b")
    drive.end("a", 1)
    drive.end("b")
    drive.leave()
    assert drive.state("rescue") in (S.SKIPPED, S.CANCELLED)


@pytest.mark.parametrize("policy", STOPPING_POLICIES)
def test_public_09_the_failure_of_one_replica_is_enough(policy: OnFailure) -> None:
    replicas = [a_task(f"r_{index}", base="r", on_failure=policy) for index in range(3)]
    drive = Driver.joined(a_plan(*replicas, after("failed", "rescue", "r", is_group=True)))
    drive.start("r_0", "r_1", "r_2")
    assert "0: spawn rescue#1" in drive.end("r_1", 1)
    drive.start("rescue")
    drive.end("rescue")
    for name in ("r_0", "r_2"):
        drive(exited(name, signal=15))
    drive.leave()


@pytest.mark.parametrize("policy", STOPPING_POLICIES)
def test_public_09_failures_of_probes_timeouts_and_nodes_are_failures(policy: OnFailure) -> None:
    rescue = msgspec.structs.replace(after("failed", "rescue", "a"), placement=Placement(nodes=(1,)))
    by_probe = Driver.joined(a_plan(a_task("a", on_failure=policy), rescue, nodes=2))
    by_probe.start("a")
    by_probe(ready("a", kind="failure"))
    assert "1: spawn rescue#1" in by_probe(exited("a", signal=15))
    by_time = Driver.joined(a_plan(a_task("a", on_failure=policy, timeout_s=5.0), rescue, nodes=2))
    by_time.start("a")
    by_time(WakeUp(), now=5.0)
    assert "1: spawn rescue#1" in by_time(exited("a", signal=15))
    by_loss = Driver.joined(a_plan(a_task("a", on_failure=policy), rescue, nodes=2))
    by_loss.start("a")
    assert "1: spawn rescue#1" in by_loss.lose(0)


def test_public_09_a_failed_main_task_is_rescued_before_the_run_ends() -> None:
    main = a_task("main", is_main=True, on_failure="isolate")
    drive = Driver.joined(a_plan(main, after("failed", "rescue", "main"), a_task("other")))
    drive.start("main", "other")
    assert "0: spawn rescue#1" in drive.end("main", 1)
    drive.start("rescue")
    assert "0: stop other#1 5" in drive.end("rescue")
    drive(exited("other", signal=15))
    drive.leave()


def test_public_09_a_rescue_under_way_is_not_stopped_by_another_failure() -> None:
    plan = a_plan(a_task("a", on_failure="continue"), a_task("b"), after("failed", "rescue", "a"))
    drive = Driver.joined(plan)
    drive.start("a", "b")
    drive.end("a", 1)
    drive.start("rescue")
    drive.end("b", 1)
    assert drive.state("rescue") is S.RUNNING
    drive.end("rescue")
    drive.leave()
    assert drive.state("rescue") is S.COMPLETED


def test_public_09_an_interrupt_ends_the_branch() -> None:
    drive = Driver.joined(a_plan(a_task("a"), after("failed", "rescue", "a"), a_task("more", "rescue")))
    drive.start("a")
    drive.end("a", 1)
    drive.start("rescue")
    assert "0: stop rescue#1 5" in drive(StopRequested(signal="SIGINT"))
    drive(exited("rescue", signal=15))
    drive.leave()
    assert drive.states("rescue", "more") == [S.CANCELLED, S.CANCELLED]


def test_public_09_the_time_limit_ends_the_branch() -> None:
    drive = Driver.joined(a_plan(a_task("a"), after("failed", "rescue", "a"), timeout_s=10.0))
    drive.start("a")
    drive.end("a", 1)
    drive.start("rescue")
    assert "0: stop rescue#1 5" in drive(WakeUp(), now=10.0)
    drive(exited("rescue", signal=15))
    drive.leave()


def test_public_09_an_interrupted_run_has_no_branch() -> None:
    drive = Driver.joined(a_plan(a_task("a"), after("finished", "rescue", "a")))
    drive.start("a")
    drive(StopRequested(signal="SIGINT"))
    assert drive(exited("a", signal=2)).of(FinishRun) == []
    assert drive.state("rescue") is S.CANCELLED
    drive.leave()


def test_public_09_tasks_at_the_end_run_after_the_branch() -> None:
    final = a_task("final", finally_when="after_stop", timeout_s=5.0)
    drive = Driver.joined(a_plan(a_task("a"), after("failed", "rescue", "a"), final))
    drive.start("a")
    drive.end("a", 1)
    drive.start("rescue")
    assert "0: spawn final#1" in drive.end("rescue")
    drive.start("final")
    drive.end("final")
    drive.leave()
