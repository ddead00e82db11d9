"""A run that did not run for a while: none of its limits counts that time, but for the end of its Slurm job."""

from sflow_ctl.core.events import StopRequested, Suspended, WakeUp
from sflow_ctl.core.model.timers import (
    AllocationEnding,
    JobEndNear,
    LeaveOverdue,
    RetryDue,
    Timers,
    WorkflowTimeout,
)
from sflow_ctl.core.states import Outcome, TaskState
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


def test_all_timers_but_those_of_the_job_are_delayed() -> None:
    timers = Timers()
    timers.set(10.0, WorkflowTimeout())
    timers.set(20.0, JobEndNear(50.0))
    timers.set(15.0, RetryDue(0, 1))
    timers.set(30.0, AllocationEnding(50.0))
    timers.set(15.0, LeaveOverdue())
    timers.delay(100.0)
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
