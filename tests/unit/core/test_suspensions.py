"""A run that did not run for a while: none of its limits counts that time, but for the end of its Slurm job."""

from typing import Any

from protocol.messages.facts import AgentSuspended, LiveRank
from protocol.messages.orders import ConfirmLife
from sflow_ctl.core.events import (
    AgentLost,
    MessageReceived,
    NodeStandsStill,
    StopRequested,
    Suspended,
    WakeUp,
)
from sflow_ctl.core.model.timers import (
    AllocationEnding,
    JobEndNear,
    LeaveOverdue,
    RetryDue,
    TimeoutDue,
    Timers,
    WorkflowTimeout,
)
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, confirmed, hello, rank

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
        due = timers.pop_due(at)
        assert due is not None
        assert due[0] == at
        found.append((at, type(due[1]).__name__))
    assert found == [
        (20.0, "JobEndNear"),
        (30.0, "AllocationEnding"),
        (110.0, "WorkflowTimeout"),
        (115.0, "RetryDue"),
        (115.0, "LeaveOverdue"),
    ]


# ---------------------------------------------------------------------- limits that end while an agent stands still


def limited(**fields: Any) -> Driver:
    run = Driver.joined(a_plan(a_task("a", timeout_s=60.0, retries=0, **fields), nodes=2))
    run.confirms = False
    run.start("a")
    return run


def test_p5_a_timeout_is_judged_when_the_agent_has_confirmed_that_it_runs() -> None:
    run = limited()
    began = run.now
    assert run(WakeUp(), now=began + 60) == ["0: confirm 1"]
    assert run.state("a") is S.RUNNING
    assert run(confirmed(1), now=began + 60.1) == [
        "a#1 running->stopping timeout", "0: stop a#1 5",
    ]  # fmt: skip


def test_p5_a_timeout_that_ends_while_the_agent_stands_still_counts_without_it() -> None:
    run = limited()
    began = run.now
    run(WakeUp(), now=began + 60)
    assert run.scheduler.next_wakeup() is None, "only the agent's word, or its loss, is waited for"
    suspended(run, 30.0, now=began + 80)  # since 50
    assert run(confirmed(1), now=began + 80) == [], "the question is answered, and the limit is another one"
    assert run.scheduler.next_wakeup() == began + 90
    assert run(WakeUp(), now=began + 90) == ["0: confirm 2"]
    assert run(confirmed(1), now=began + 90) == [], "an answer to an earlier question says nothing of now"
    run(confirmed(2), now=began + 90)
    assert run.state("a") is S.STOPPING


def test_p5_a_timeout_waits_no_longer_for_an_agent_that_is_lost() -> None:
    run = limited()
    run(WakeUp(), now=run.now + 60)
    lines = run(AgentLost(node=0, reason="silent for 30 s"), now=run.now + 20)
    assert "a#1 running->lost node_lost" in list(lines)


def test_p5_a_timeout_does_not_wait_for_a_loop_that_is_held_up() -> None:
    run = limited()
    began = run.now
    run(WakeUp(), now=began + 60)
    run(NodeStandsStill(node=0, seconds=5.0, doing="stat of /mnt/x"), now=began + 62)
    assert run.state("a") is S.STOPPING
    other = limited()
    other(NodeStandsStill(node=0, seconds=5.0, doing="stat of /mnt/x"), now=10.0)
    assert not other(WakeUp(), now=100.0).orders(ConfirmLife)
    assert other.state("a") is S.STOPPING
    assert not other.run.nodes[1].is_held_up
    other(hello(0, "s2"))
    assert not other.run.nodes[0].is_held_up


def test_p5_a_gang_is_judged_when_each_of_its_agents_has_confirmed() -> None:
    run = limited(placement=Placement(nodes=(0, 1)), ranks_per_node=(1, 1))
    began = run.now
    assert run(WakeUp(), now=began + 60) == ["0: confirm 1", "1: confirm 1"]
    assert run(confirmed(1, 1), now=began + 61) == []
    run(MessageReceived(node=0, message=AgentSuspended(seconds=20.0)), now=began + 75)
    run(confirmed(1, 0), now=began + 75)
    assert run.state("a") is S.STARTING
    assert run(WakeUp(), now=began + 80) == ["0: confirm 2", "1: confirm 2"]
    run(confirmed(2, 1), confirmed(2, 0), now=began + 80)
    assert run.state("a") is S.STOPPING


def test_p5_one_question_is_for_all_limits_of_a_moment() -> None:
    tasks = [a_task(f"t{number}", timeout_s=60.0) for number in range(3)]
    run = Driver.joined(a_plan(*tasks))
    run.confirms = False
    run.start(*(task.name for task in tasks))
    began = run.now
    assert run(WakeUp(), now=began + 60) == ["0: confirm 1"]
    run(confirmed(1), now=began + 60)
    assert [run.state(task.name) for task in tasks] == [S.STOPPING] * 3


def test_p5_a_question_is_repeated_in_a_new_session() -> None:
    run = limited()
    run(WakeUp(), now=run.now + 60)
    known = LiveRank(rank=rank("a"), pid=7, started_at_ns=1)
    assert "0: confirm 1" in list(run(hello(0, "s2", live=(known,))))
    run(confirmed(1))
    assert run.state("a") is S.STOPPING


def test_p5_limits_that_wait_move_with_the_others() -> None:
    """When the controller stood still as well, or a revision changes them."""
    run = limited()
    began = run.now
    run(WakeUp(), now=began + 60)
    run(Suspended(seconds=HOUR), now=began + 61 + HOUR)
    assert run.scheduler.next_wakeup() == began + 60 + HOUR
    timers = Timers()
    limit = TimeoutDue(0, 1)
    assert timers.ask(3, limit, 60.0, 61.0) == 1
    timers.change_limit(limit, 0.0, 60.0, 90.0)
    assert (timers.next_at(), list(timers.asked_nodes())) == (90.0, [])
    assert timers.pop_due(90.0) == (90.0, limit)
    assert timers.ask(3, limit, 90.0, 91.0) == 2
    timers.clear()
    assert (timers.confirmed(3), timers.question_of(3)) == ([], None)


def test_p5_a_task_that_has_ended_meanwhile_is_not_judged() -> None:
    run = limited()
    run(WakeUp(), now=run.now + 60)
    run.end("a")
    assert run(confirmed(1)) == []
    assert run.state("a") is S.COMPLETED
