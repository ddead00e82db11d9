"""A run that did not run for a while: none of its limits counts that time, but for the end of its Slurm job."""

from protocol.messages.facts import AgentSuspended
from sflow_ctl.core.events import MessageReceived, StopRequested, Suspended, WakeUp
from sflow_ctl.core.model.timers import (
    AllocationEnding,
    JobEndNear,
    LeaveOverdue,
    RetryDue,
    Timers,
    WorkflowTimeout,
)
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task

S = TaskState
HOUR = 3600.0


def test_p5_a_suspension_does_not_count_against_the_timeout_of_a_task() -> None:
    run = Driver.joined(a_plan(a_task("a", timeout_s=60.0, retries=0)))
    run.start("a")
    began = run.now
    run(Suspended(seconds=HOUR), now=began + 10 + HOUR)
    run(WakeUp(), now=began + 59 + HOUR)
    assert run.state("a") is S.RUNNING
    run(WakeUp(), now=began + 61 + HOUR)
    assert run.state("a") is S.STOPPING
    assert run.stopped() == ["a"]
    run.end("a", signal=15)
    assert run.leave().outcome is Outcome.FAILED


def test_p5_agents_are_not_late_to_stop_tasks_after_a_suspension() -> None:
    run = Driver.joined(a_plan(a_task("a")))
    run.start("a")
    run(StopRequested(signal="SIGTERM"))
    began = run.now
    run(Suspended(seconds=HOUR), now=began + HOUR)
    run(WakeUp(), now=began + 1 + HOUR)
    assert not run.run.nodes[0].is_gone
    run.end("a", signal=15)
    assert run.leave().outcome is Outcome.TERMINATED


def suspended(run: Driver, seconds: float, *, now: float) -> None:
    run(MessageReceived(node=0, message=AgentSuspended(seconds=seconds)), now=now)


def test_p5_a_suspension_of_an_agent_alone_counts_against_no_limit_of_its_tasks() -> None:
    run = Driver.joined(
        a_plan(
            a_task("a", timeout_s=60.0, retries=0),
            a_task("b", timeout_s=60.0, placement=Placement(nodes=(1,)), on_failure="continue"),
            nodes=2,
        )
    )
    run.start("a", "b")
    began = run.now
    suspended(run, 30.0, now=began + 40)
    run(WakeUp(), now=began + 61)
    assert (run.state("a"), run.state("b")) == (S.RUNNING, S.STOPPING)
    assert run.stopped() == ["b"]
    run.end("b", signal=15, node=1)
    run(WakeUp(), now=began + 89)
    assert run.state("a") is S.RUNNING
    run(WakeUp(), now=began + 91)
    assert run.state("a") is S.STOPPING
    assert run.stopped() == ["b", "a"]


def test_p5_a_suspension_of_agent_and_controller_counts_once() -> None:
    run = Driver.joined(a_plan(a_task("a", timeout_s=60.0, retries=0)))
    run.start("a")
    began = run.now
    run(Suspended(seconds=HOUR), now=began + HOUR)
    suspended(run, HOUR + 2.0, now=began + HOUR + 1)
    run(WakeUp(), now=began + HOUR + 61)
    assert run.state("a") is S.RUNNING
    run(WakeUp(), now=began + HOUR + 63)
    assert run.state("a") is S.STOPPING
    assert run.stopped() == ["a"]


def test_all_timers_but_those_of_the_job_are_delayed() -> None:
    timers = Timers()
    timers.set(10.0, WorkflowTimeout())
    timers.set(20.0, JobEndNear(50.0))
    timers.set(15.0, RetryDue(0, 1))
    timers.set(30.0, AllocationEnding(50.0))
    timers.set(15.0, LeaveOverdue())
    timers.delay(100.0, 5.0)
    found = []
    while (at := timers.next_at()) is not None:
        found.append((at, type(timers.pop_due(at)).__name__))
    assert found == [
        (20.0, "JobEndNear"),
        (30.0, "AllocationEnding"),
        (110.0, "WorkflowTimeout"),
        (115.0, "RetryDue"),
        (115.0, "LeaveOverdue"),
    ]
