"""GPUs that an agent reports as lost: no task gets them any more, and those that use them fail with `gpu_lost`."""

from typing import Any

import msgspec
import pytest

from protocol.messages.facts import GpuLost
from sflow_ctl.core.events import AgentJoined, MessageReceived
from sflow_ctl.core.invariants import check_invariants
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Placement, PlannedTask
from sflow_ctl.plan.parts.again import Restart, Retries
from tests.unit.core.plans import a_plan, a_task, exited, hello
from tests.unit.core.test_moves import Run

S = TaskState
ANY = Placement(nodes=(0, 1), is_flexible=True, node_count=1, gpus_per_node=1)
HERE = msgspec.structs.replace(ANY, nodes=(0,))
XID = "fell off the bus (Xid 79)"
WARNING = "gpu-lost: localhost-0 has lost GPU 0, which no task gets any more: fell off the bus (Xid 79)"


def lost(gpu: int, node: int = 0) -> MessageReceived:
    return MessageReceived(node=node, message=GpuLost(gpu=gpu, text=XID))


def on_gpu(name: str, *gpus: int, **more: Any) -> PlannedTask:
    """A task that has GPUs of node 0 by the plan."""
    place = Placement(nodes=(0,), gpus=gpus, gpus_per_node=len(gpus))
    return msgspec.structs.replace(a_task(name, placement=place, retries=1, interval_s=0.0), **more)


def ended(run: Run, name: str) -> None:
    """Report the end of a task's processes, which were signalled."""
    run.tell(exited(name, None, run.scheduler.run.task_named(name).attempt.number, signal=15))


def test_the_task_on_a_lost_gpu_fails_with_its_reason_and_no_other_one_gets_it() -> None:
    first = a_task("first", placement=ANY, on_failure="continue")
    later = [a_task(f"t{n}", placement=ANY) for n in range(3)]
    run = Run(a_plan(first, *later, nodes=2, gpus=2))
    assert run.starts("first") == [(1, 0)]
    run.tell(lost(0))
    ended(run, "first")
    assert run.state("first") is S.FAILED
    reason = run.reasons["first"][-1]
    assert (reason.word, reason.text) == ("gpu_lost", f"GPU 0 of node localhost-0 was lost: {XID}")
    assert run.warnings == [WARNING]
    run.tell(exited("t0"))
    check_invariants(run.scheduler.run)
    held = {(task.attempt.node, task.attempt.gpus) for task in run.scheduler.run.tasks[2:]}
    assert (0, (0,)) not in held


def test_a_repeated_report_changes_nothing_and_a_hello_repeats_it() -> None:
    run = Run(a_plan(on_gpu("t", 1), nodes=1, gpus=4))
    run.tell(lost(0))
    run.tell(lost(0))
    again = msgspec.structs.replace(hello(0, "s9").hello, lost_gpus=(GpuLost(gpu=0, text=XID),))
    run.tell(AgentJoined(hello=again))
    assert run.warnings == [WARNING]
    assert not run.scheduler.run.ledger.could_give(0, 4)


def test_a_retry_gets_other_gpus_of_its_node() -> None:
    run = Run(a_plan(on_gpu("t", 0, 1), nodes=1, gpus=4))
    run.tell(lost(0))
    ended(run, "t")
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 0)]
    assert run.scheduler.run.task_named("t").attempt.gpus == (1, 2)
    assert run.last("t").gpus == (1, 2)


def test_a_retry_goes_to_another_node_where_its_own_has_too_few_left() -> None:
    elsewhere = msgspec.structs.replace(ANY, gpus_per_node=2)
    run = Run(a_plan(on_gpu("t", 0, 1, elsewhere=elsewhere), nodes=2, gpus=2))
    run.tell(lost(1))
    ended(run, "t")
    run.pass_to_wakeup()
    assert run.starts("t") == [(1, 0), (2, 1)]


def test_a_task_that_can_have_no_other_gpus_ends_and_says_so() -> None:
    run = Run(a_plan(on_gpu("t", 0, 1), nodes=1, gpus=2))
    run.tell(lost(1))
    ended(run, "t")
    assert run.state("t") is S.FAILED
    assert run.reasons["t"][-1].word == "gpu_lost"
    assert "it needs 1 node, and none of those that could take it are left" in run.reasons["t"][-1].text


def test_a_task_that_names_its_gpus_is_not_given_other_ones() -> None:
    run = Run(a_plan(on_gpu("t", 0, pinned="resources.gpus.indices names its GPUs"), nodes=1, gpus=4))
    run.tell(lost(0))
    ended(run, "t")
    assert run.state("t") is S.FAILED
    assert "resources.gpus.indices names its GPUs" in run.reasons["t"][-1].text


def test_a_waiting_task_that_can_never_have_its_gpus_says_so() -> None:
    run = Run(a_plan(a_task("first"), after_first(on_gpu("t", 0, pinned="it says so")), nodes=1, gpus=1))
    run.tell(lost(0))
    run.tell(exited("first"))
    assert run.state("t") is S.FAILED
    assert run.reasons["t"][-1].text.startswith("GPUs that it needs are lost, and it cannot have other GPUs")


def after_first(task: PlannedTask) -> PlannedTask:
    """The task, after one with the name `first` has completed."""
    return msgspec.structs.replace(task, depends_on=a_task("x", "first").depends_on)


def test_a_restart_does_not_keep_a_place_with_a_lost_gpu() -> None:
    service = on_gpu("s", 0, restart=Restart(count=2, backoff_s=5.0), retries=Retries(), kind="service")
    run = Run(a_plan(service, a_task("work"), nodes=1, gpus=4))
    run.tell(exited("s", 1))
    assert run.scheduler.run.task_named("s").is_reserved
    run.tell(lost(0))
    assert not run.scheduler.run.task_named("s").is_reserved
    run.pass_to_wakeup()
    assert run.scheduler.run.task_named("s").attempt.gpus == (1,)


def test_every_attempt_on_a_gpu_that_several_share_ends() -> None:
    shared = Placement(nodes=(0,), gpus=(0,), gpus_per_node=1, is_shared=True)
    tasks = [a_task(name, placement=shared, on_failure="continue") for name in ("a", "b")]
    run = Run(a_plan(*tasks, a_task("other"), nodes=1, gpus=2))
    run.tell(lost(0))
    for name in ("a", "b"):
        ended(run, name)
        assert run.reasons[name][-1].word == "gpu_lost"


def test_gpus_that_were_not_counted_can_be_lost_as_well() -> None:
    run = Run(a_plan(a_task("a", placement=HERE, retries=1, interval_s=0.0), nodes=1, gpus=None))
    run.tell(lost(0))
    ended(run, "a")
    run.pass_to_wakeup()
    assert run.scheduler.run.task_named("a").attempt.gpus == (1,)


@pytest.mark.parametrize("gpu", [-1, 100_000, 1 << 70])
def test_an_index_that_cannot_be_one_is_counted_and_dropped(gpu: int) -> None:
    run = Run(a_plan(on_gpu("t", 0), nodes=1, gpus=4))
    run.tell(lost(gpu))
    assert run.scheduler.run.foreign_messages == 1
    assert run.state("t") is S.RUNNING
    assert not run.warnings
