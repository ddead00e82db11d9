"""GPUs and nodes that `release_after` keeps from others, in plans whose places the scheduler chooses."""

from typing import Any

import pytest
from msgspec.structs import replace

from sflow_ctl.core.events import WakeUp
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement, PlannedTask
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task

S = TaskState


def gpus(count: int, *nodes: int) -> Placement:
    """GPUs on a node that the scheduler chooses."""
    return Placement(nodes=nodes or (0,), is_flexible=True, gpus_per_node=count)


def nodes(count: int, *among: int) -> Placement:
    """Nodes that the scheduler chooses."""
    return Placement(nodes=among or (0, 1), is_flexible=True, node_count=count)


def with_fields(task: PlannedTask, **fields: Any) -> PlannedTask:
    return replace(task, **fields)


def keeper(name: str, *depends_on: str, count: int = 2, **options: Any) -> PlannedTask:
    return with_fields(a_task(name, *depends_on, placement=gpus(count), **options), keeps_gpus=True)


def test_kept_gpus_are_not_given_again() -> None:
    run = Driver.joined(a_plan(keeper("a"), a_task("b", "a", placement=gpus(2)), gpus=4))
    run.start("a")
    run.end("a")
    assert run.state("b") is S.STARTING
    assert run.task("b").attempt.gpus == (2, 3)


def test_a_task_that_kept_gpus_shut_out_for_good_fails_with_the_reason() -> None:
    tasks = (keeper("a"), a_task("b", placement=gpus(4)), a_task("c", "b"))
    run = Driver.joined(a_plan(*tasks, gpus=4))
    run.start("a")
    run.end("a")
    assert run.states("b", "c") == [S.FAILED, S.CANCELLED]
    assert run.why("b") == (
        "kept: it needs 4 GPUs on one node, which a keeps until the run ends (release_after: workflow_completion)"
    )
    assert run.run.outcome is Outcome.FAILED


def test_a_task_that_may_fail_does_not_keep_the_others_waiting() -> None:
    tasks = (
        keeper("a"),
        a_task("b", placement=gpus(4), on_failure="continue"),
        a_task("c", placement=gpus(3), on_failure="continue"),
    )
    run = Driver.joined(a_plan(*tasks, gpus=4))
    run.start("a")
    run.end("a")
    assert run.states("b", "c") == [S.FAILED, S.FAILED]
    assert run.run.outcome is Outcome.COMPLETED


def test_nothing_fails_while_another_attempt_is_due() -> None:
    tasks = (keeper("a"), a_task("b", placement=gpus(4)), a_task("d", retries=1))
    run = Driver.joined(a_plan(*tasks, gpus=4))
    run.start("a", "d")
    run.end("a")
    run.end("d", 1)
    assert run.states("b", "d") == [S.QUEUED, S.WAITING]
    run.wake()
    run.start("d")
    run.end("d")
    assert run.state("b") is S.FAILED


def test_a_keeper_is_tried_again_on_its_own_gpus() -> None:
    run = Driver.joined(a_plan(keeper("a", retries=1), a_task("b", placement=gpus(4)), gpus=4))
    run.start("a")
    run.end("a", 1)
    assert run.state("b") is S.QUEUED
    run.wake()
    assert run.state("a") is S.STARTING
    assert run.task("a").attempt.gpus == (0, 1)


def test_the_end_of_the_run_frees_what_is_kept() -> None:
    last = with_fields(a_task("last", placement=gpus(4), finally_when="after_stop"))
    run = Driver.joined(a_plan(keeper("a"), last, gpus=4))
    run.start("a")
    run.end("a")
    assert run.state("last") is S.STARTING


# ---------------------------------------------------------------------- nodes


def claimer(until: str, *depends_on: str, **options: Any) -> PlannedTask:
    task = a_task("a", *depends_on, placement=nodes(1), **options)
    return with_fields(task, claims_nodes_until=until, heeds_claims=True)


def heeding(name: str, *depends_on: str, count: int = 1, among: tuple[int, ...] = (0, 1)) -> PlannedTask:
    return with_fields(a_task(name, *depends_on, placement=nodes(count, *among)), heeds_claims=True)


def test_a_claimed_node_is_passed_over() -> None:
    run = Driver.joined(a_plan(claimer("task_completion"), heeding("b"), heeding("c"), nodes=2))
    assert [run.task(name).attempt.node for name in "abc"] == [0, 1, 1]


def test_gpu_tasks_pass_over_claimed_nodes() -> None:
    task = with_fields(a_task("b", "z", placement=gpus(1, 0, 1)), heeds_claims=True)
    run = Driver.joined(a_plan(claimer("task_completion"), a_task("z"), task, nodes=2, gpus=4))
    run.start("a", "z")
    run.end("z")
    assert run.task("b").attempt.node == 1


def test_tasks_that_ask_for_nothing_ignore_claims() -> None:
    everywhere = a_task("b", placement=Placement(nodes=(0, 1)), ranks_per_node=(1, 1))
    run = Driver.joined(a_plan(claimer("workflow_completion"), everywhere, nodes=2))
    assert run.state("b") is S.STARTING


@pytest.mark.parametrize("until", ["task_completion", "task_ready"])
def test_a_claim_ends_with_its_policy(until: str) -> None:
    run = Driver.joined(a_plan(claimer(until, service=True), heeding("b", count=2), nodes=2))
    run.start("a")
    assert run.state("b") is S.QUEUED
    if until == "task_ready":
        run.serve("a")
        assert run.state("b") is S.STARTING
    else:
        run.end("a", 1)
        assert run.run.claims.owners == {}


def test_a_claim_that_lasts_ends_a_run_that_cannot_continue() -> None:
    run = Driver.joined(a_plan(claimer("workflow_completion"), heeding("b", count=2), nodes=2))
    run.start("a")
    run.end("a")
    assert run.state("b") is S.FAILED
    assert run.why("b").startswith("kept: it needs each of 2 nodes, which a keeps until the run ends")


def test_a_task_that_ignores_claims_is_not_blocked_behind_one_that_heeds_them() -> None:
    here = Placement(nodes=(0,))
    first = with_fields(a_task("b", "z", placement=here), heeds_claims=True)
    tasks = (claimer("task_completion"), a_task("z"), first, a_task("c", "z", placement=here))
    run = Driver.joined(a_plan(*tasks, nodes=2))
    run.start("a", "z")
    run.end("z")
    assert run.states("b", "c") == [S.QUEUED, S.STARTING]


def test_a_run_without_kept_places_waits_for_its_agents() -> None:
    run = Driver.joined(a_plan(keeper("a"), a_task("b", placement=gpus(4)), nodes=2, gpus=4), 0)
    run.start("a")
    run.end("a")
    assert run(WakeUp()) == []
    assert run.state("b") is S.QUEUED
