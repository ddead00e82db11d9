"""A task whose GPUs others may use once it is ready (`release_after: task_ready`)."""

import msgspec

from sflow_ctl.core.invariants import check_invariants
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Placement, PlannedTask
from sflow_ctl.plan.parts.again import Restart
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task

S = TaskState
GPUS = Placement(nodes=(0,), gpus=(0, 1), gpus_per_node=2)


def lender(restart: Restart | None = None, retries: int = 0) -> PlannedTask:
    """A service that lends its GPUs."""
    task = a_task("init", service=True, placement=GPUS, restart=restart, retries=retries)
    return msgspec.structs.replace(task, lends_gpus=True)


def joined(*tasks: PlannedTask) -> Driver:
    """Return a run on one node of two GPUs."""
    return Driver.joined(a_plan(*tasks, nodes=1, gpus=2))


def test_a_dependant_starts_on_the_gpus_of_a_ready_task() -> None:
    run = joined(lender(), a_task("serve", "init", placement=GPUS), a_task("rival", "init", placement=GPUS))
    assert run.state("serve") is S.WAITING
    run.serve("init")
    assert run.state("serve") is S.STARTING
    assert run.state("rival") is S.QUEUED
    check_invariants(run.run)
    run.start("serve")
    run.end("serve")
    assert run.state("rival") is S.STARTING, "its GPUs are free, although init still runs"


def test_the_end_of_the_lender_frees_nothing_twice() -> None:
    run = joined(
        lender(retries=1), a_task("serve", "init", placement=GPUS), a_task("rival", "init", placement=GPUS)
    )
    run.serve("init")
    run.start("serve")
    run.end("init", 1)
    run.wake()
    run.serve("init")
    assert run.state("serve") is S.RUNNING
    assert run.state("rival") is S.QUEUED


def test_a_restarted_lender_shares_the_same_gpus() -> None:
    run = joined(lender(restart=Restart(count=1, backoff_s=1.0)), a_task("serve", "init", placement=GPUS))
    run.serve("init")
    run.start("serve")
    run.end("init", signal=11)
    run.wake()
    assert run.state("init") is S.STARTING
    place = run.task("init").attempt.placement
    assert place is not None
    assert (place.gpus, place.is_shared) == ((0, 1), True)
    assert run.state("serve") is S.RUNNING


def test_a_lender_that_is_tried_again_does_not_wait_for_who_has_its_gpus() -> None:
    run = joined(lender(retries=1), a_task("serve", "init", placement=GPUS))
    run.serve("init")
    run.start("serve")
    run.end("init", 1)
    run.wake()
    assert run.state("init") is S.STARTING
    assert run.state("serve") is S.RUNNING
