"""Processes that outlive SIGKILL, in a system call: their task ends, and their node has its other tasks."""

import pytest

from protocol.messages.facts import Ending, ProbeTriggered, RankCleared
from protocol.messages.orders import Stop
from sflow_ctl.core.actions.stop_orders import STOP_OVERDUE_S
from sflow_ctl.core.commands import AnswerRequest, Warn
from sflow_ctl.core.events import MessageReceived, OperatorRequest, StopRequested, WakeUp
from sflow_ctl.core.requests import StopTasks
from sflow_ctl.core.states import Outcome
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, cleared, exited, rank, started

STUCK = ("7 stuck",)
WARNING = (
    "stuck-process: SIGKILL has not ended 7 stuck of a#1, which waits in the kernel (a device, or a file system that does "
    "not answer); the task is counted as ended, and its node is used as before"
)


def test_a_process_that_sigkill_does_not_end_costs_its_task_and_not_its_node() -> None:
    run = Driver.joined(a_plan(a_task("a"), a_task("b")))
    run.start("a", "b")
    assert run(OperatorRequest(id="r", by="op", action=StopTasks(tasks=("a",)))).of(AnswerRequest)
    lines = run(cleared("a", survivors=STUCK))
    assert [one.text for one in lines.of(Warn)] == [WARNING]
    assert run.state("a") == "cancelled"
    assert run(exited("a", signal=9)) == []  # the kernel has answered: too late to count
    assert run(WakeUp(), now=100.0 + STOP_OVERDUE_S) == []
    assert run.state("b") == "running"
    run.end("b")
    assert run.leave().survivors == STUCK


def test_a_task_whose_process_is_stuck_at_its_timeout_starts_again() -> None:
    run = Driver.joined(a_plan(a_task("a", timeout_s=5.0, retries=1, interval_s=0.0)))
    run.start("a")
    run.wake()
    assert WARNING in [one.text for one in run(cleared("a", survivors=STUCK)).of(Warn)]
    run.wake()
    assert str(run.task("a").attempt_id) == "a#2"
    run.start("a")
    run.end("a")
    assert run.leave().outcome is Outcome.COMPLETED


def test_a_gang_ends_when_one_of_its_processes_is_stuck() -> None:
    gang = a_task("a", placement=Placement(nodes=(0, 1)), ranks_per_node=(1, 1))
    run = Driver.joined(a_plan(gang, nodes=2))
    run(started("a"), started("a", node=1, rank_number=1))
    run(StopRequested(signal="SIGINT"))
    run(MessageReceived(node=1, message=RankCleared(rank=rank("a", 1, 1), survivors=STUCK))).of(Warn)
    assert run.state("a") == "stopping"
    run(exited("a", signal=15))
    assert run.state("a") == "cancelled"
    assert run.leave().survivors == STUCK


@pytest.mark.parametrize("size", [1, 2])
def test_what_an_agent_cannot_end_when_it_ends_itself_is_lost(size: int) -> None:
    """Its controller has begun to stop the run, and has not come to this task."""
    service = a_task("a", service=True, ranks_per_node=(size,))
    run = Driver.joined(a_plan(service, a_task("b", "a"), nodes=2))
    for number in range(size):
        run(started("a", rank_number=number))
    run(*(one for number in range(size) for one in _ready(number)))
    run.start("b")
    run(StopRequested(signal="SIGINT"))
    assert run.stopped() == ["b"]
    run(MessageReceived(node=0, message=Ending(reason="SIGTERM received")))
    lines = run(cleared("a", survivors=STUCK))
    assert WARNING in [one.text for one in lines.of(Warn)]
    assert run.state("a") == ("lost" if size == 1 else "stopping")
    assert len(lines.orders(Stop)) == size - 1
    for number in range(1, size):
        run(exited("a", signal=15, rank_number=number))
    run(exited("b", signal=15))
    assert run.state("a") == "lost"
    assert run.leave().outcome is Outcome.INTERRUPTED


def _ready(number: int) -> list[MessageReceived]:
    message = ProbeTriggered(attempt=rank("a").attempt, rank=number, kind="readiness", detail="up")
    return [MessageReceived(node=0, message=message)]
