"""The scheduler by events: each test names one fact.

Every command counts.
"""

import pytest

from protocol.messages.facts import LiveRank
from protocol.messages.orders import Spawn
from sflow_ctl.core.actions.shutdown import DEFAULT_GRACE_S, LEAVE_OVERDUE_S
from sflow_ctl.core.actions.stop_orders import STOP_OVERDUE_S
from sflow_ctl.core.events import AgentLost, StopRequested, WakeUp
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver
from tests.unit.core.plans import (
    a_plan,
    a_task,
    cleared,
    exited,
    goodbye,
    hello,
    rank,
    ready,
    started,
)


def test_a_chain_runs_link_by_link_and_the_run_completes() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b", "a")))
    assert drive(hello()) == ["0: accept s1", "a#1 queued->starting placed", "0: spawn a#1"]
    assert drive(started("a")) == ["a#1 starting->running started"]
    assert drive(exited("a")) == [
        "a#1 running->completed exit",
        "b#0 waiting->queued dependencies",
        "b#1 queued->starting placed",
        "0: spawn b#1",
    ]
    drive(started("b"))
    assert drive(exited("b")) == ["b#1 running->completed exit", "0: leave 5"]
    assert drive(goodbye()) == ["finish completed"]
    assert drive.run.cause is None


def test_all_that_may_start_on_a_node_is_one_order() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b"), a_task("c")))
    assert drive(hello())[-1] == "0: spawn a#1 b#1 c#1"


def test_nothing_starts_before_its_node_has_an_agent() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b", placement=Placement(nodes=(1,))), nodes=2))
    assert drive(hello(1, "s2")) == ["1: accept s2", "b#1 queued->starting placed", "1: spawn b#1"]
    assert drive.state("a") is TaskState.QUEUED


def test_dependants_of_a_service_start_when_it_is_ready_and_it_is_stopped_at_the_end() -> None:
    drive = Driver(a_plan(a_task("server", service=True), a_task("client", "server")))
    drive(hello())
    drive(started("server"))
    assert drive(ready("server")) == [
        "server#1 running->ready ready",
        "client#0 waiting->queued dependencies",
        "client#1 queued->starting placed",
        "0: spawn client#1",
    ]
    drive(started("client"))
    assert drive(exited("client")) == [
        "client#1 running->completed exit",
        "server#1 ready->stopping run_complete",
        "0: stop server#1 5",
    ]
    assert drive(exited("server", signal=15)) == ["server#1 stopping->completed run_complete", "0: leave 5"]
    assert drive(goodbye()) == ["finish completed"]


def test_readiness_is_recorded_once_and_only_of_a_running_task() -> None:
    drive = Driver(a_plan(a_task("server", service=True), a_task("client", "server")))
    drive(hello())
    assert drive(ready("server")) == []
    drive(started("server"))
    drive(ready("server"))
    assert drive(ready("server")) == []


def test_a_dependency_on_completion_is_not_satisfied_by_readiness() -> None:
    drive = Driver(a_plan(a_task("r0", service=True), a_task("r1", after_completion=("r0",))))
    drive(hello())
    drive(started("r0"))
    drive(ready("r0"))
    assert drive.state("r1") is TaskState.WAITING
    assert "0: spawn r1#1" in drive(exited("r0"))


def test_the_first_failure_stops_the_run_and_is_its_cause() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b"), a_task("c", "a")))
    drive(hello())
    drive(started("a"))
    drive(started("b"))
    assert drive(exited("a", code=3)) == [
        "a#1 running->failed exit",
        "c#0 waiting->cancelled fail_fast",
        "b#1 running->stopping fail_fast",
        "0: stop b#1 5",
    ]
    assert drive(exited("b", signal=15)) == ["b#1 stopping->cancelled fail_fast", "0: leave 5"]
    assert drive(goodbye()) == ["finish failed"]
    cause = drive.run.cause
    assert cause is not None
    assert (cause.task, cause.text) == (
        "a",
        "task a failed: exit status 3",
    )


def test_a_second_failure_while_stopping_is_not_the_cause() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b")))
    drive(hello())
    drive(exited("a", code=1))
    assert drive(exited("b", code=7)) == ["b#1 stopping->failed exit", "0: leave 5"]
    assert drive.run.cause is not None
    assert drive.run.cause.task == "a"


def test_retries_wait_with_backoff_and_count_attempts() -> None:
    drive = Driver(a_plan(a_task("a", retries=2, interval_s=2.0, backoff=3.0)))
    drive(hello())
    drive(started("a"))
    assert drive(exited("a", code=1), now=10.0) == ["a#1 running->waiting retry"]
    assert drive.scheduler.next_wakeup() == 12.0
    assert drive(WakeUp(), now=12.0) == [
        "a#1 waiting->queued dependencies",
        "a#2 queued->starting placed",
        "0: spawn a#2",
    ]
    drive(started("a", 2))
    drive(exited("a", code=1, attempt=2), now=20.0)
    assert drive.scheduler.next_wakeup() == 26.0
    drive(WakeUp(), now=26.0)
    drive(started("a", 3))
    assert drive(exited("a", code=1, attempt=3))[0] == "a#3 running->failed exit"


def test_a_retry_keeps_the_log_of_the_earlier_attempt() -> None:
    drive = Driver(a_plan(a_task("a", retries=1)))
    drive(hello())
    drive(exited("a", code=1))
    (spawn,) = drive(WakeUp(), now=5.0).orders(Spawn)
    assert spawn.ranks[0].log == "a/a.log"
    assert spawn.ranks[0].earlier_log == "a/a.attempt-1.log"
    assert spawn.ranks[0].env["SFLOW_ATTEMPT"] == "2"


def test_a_program_that_cannot_be_launched_fails_its_task_only() -> None:
    from protocol.messages.facts import LaunchFailed
    from sflow_ctl.core.events import MessageReceived

    drive = Driver(a_plan(a_task("a", retries=1)))
    drive(hello())
    failed = MessageReceived(node=0, message=LaunchFailed(rank=rank("a"), errno=2, reason="no such program"))
    assert drive(failed) == ["a#1 starting->waiting retry"]


def test_exit_of_an_old_attempt_is_ignored_and_counted() -> None:
    drive = Driver(a_plan(a_task("a", retries=1)))
    drive(hello())
    drive(exited("a", code=1))
    drive(WakeUp(), now=5.0)
    drive(started("a", 2))
    assert drive(exited("a", code=0, attempt=1)) == []
    assert drive.run.stale_messages == 1


def test_facts_of_unknown_tasks_are_ignored() -> None:
    drive = Driver(a_plan(a_task("a")))
    drive(hello())
    assert drive(exited("nobody")) == []
    assert drive(ready("nobody")) == []


def test_a_failure_probe_ends_the_run_in_spite_of_retries() -> None:
    drive = Driver(a_plan(a_task("a", retries=3)))
    drive(hello())
    drive(started("a"))
    assert drive(ready("a", kind="failure")) == ["a#1 running->stopping probe", "0: stop a#1 5"]
    assert drive(exited("a", code=0))[0] == "a#1 stopping->failed probe"
    assert drive.run.outcome is Outcome.FAILED


def test_dependants_start_at_the_exit_and_gpus_come_free_when_the_tree_is_gone() -> None:
    one_gpu = Placement(nodes=(0,), is_flexible=True, gpus_per_node=1)
    drive = Driver(
        a_plan(a_task("a", placement=one_gpu), a_task("b", "a"), a_task("c", "a", placement=one_gpu), gpus=1)
    )
    drive(hello())
    drive(started("a"))
    lines = drive(exited("a", cleared=False))
    assert lines[-1] == "0: spawn b#1"
    assert drive.state("c") is TaskState.QUEUED
    assert drive(cleared("a")) == ["c#1 queued->starting placed", "0: spawn c#1"]


def test_a_retry_waits_until_the_tree_of_the_failed_attempt_is_gone() -> None:
    drive = Driver(a_plan(a_task("a", retries=1)))
    drive(hello())
    drive(started("a"))
    assert drive(exited("a", code=1, cleared=False)) == ["a#1 running->stopping exit"]
    assert drive(cleared("a")) == ["a#1 stopping->waiting retry"]


def test_f31_survivors_are_reported_at_the_end() -> None:
    drive = Driver(a_plan(a_task("a")))
    drive(hello())
    drive(exited("a", cleared=False))
    drive(cleared("a", survivors=("77 deaf",)))
    assert drive.leave().survivors == ("77 deaf",)


def test_a_task_timeout_stops_the_attempt_and_is_subject_to_retries() -> None:
    drive = Driver(a_plan(a_task("a", timeout_s=5.0, retries=1)))
    drive(hello())
    drive(started("a"))
    assert drive.scheduler.next_wakeup() == 5.0
    assert drive(WakeUp(), now=5.0) == ["a#1 running->stopping timeout", "0: stop a#1 5"]
    assert drive(exited("a", signal=15)) == ["a#1 stopping->waiting retry"]
    drive(WakeUp(), now=6.0)
    drive(started("a", 2))
    drive(WakeUp(), now=11.0)
    assert drive(exited("a", signal=9, attempt=2))[0] == "a#2 stopping->timeout timeout"


def test_a_ready_service_has_met_its_timeout() -> None:
    drive = Driver(a_plan(a_task("s", service=True, timeout_s=5.0), a_task("c", "s")))
    drive(hello())
    drive(started("s"))
    drive(ready("s"))
    assert drive(WakeUp(), now=5.0) == []


def test_the_workflow_timeout_counts_from_the_first_start_and_ends_everything() -> None:
    drive = Driver(a_plan(a_task("a"), timeout_s=60.0))
    drive(hello(), now=100.0)
    drive(started("a"))
    assert drive(WakeUp(), now=160.0) == ["a#1 running->stopping time_limit", "0: stop a#1 5"]
    drive(exited("a", signal=15))
    assert drive(goodbye()) == ["finish timeout"]


@pytest.mark.parametrize(("signal", "outcome"), [("SIGINT", "interrupted"), ("SIGTERM", "terminated")])
def test_a_signal_stops_in_reverse_dependency_order(signal: str, outcome: str) -> None:
    drive = Driver(
        a_plan(a_task("db", service=True), a_task("web", "db", service=True), a_task("load", "web"))
    )
    drive(hello())
    for name in ("db", "web"):
        drive(started(name))
        drive(ready(name))
    drive(started("load"))
    assert drive(StopRequested(signal=signal)) == ["load#1 running->stopping interrupted", "0: stop load#1 5"]
    assert drive(exited("load", signal=15))[-1] == "0: stop web#1 5"
    assert drive(exited("web", signal=15))[-1] == "0: stop db#1 5"
    assert drive(exited("db", signal=15))[-1] == "0: leave 5"
    assert drive(goodbye()) == [f"finish {outcome}"]


def test_independent_services_stop_in_one_wave() -> None:
    drive = Driver(a_plan(a_task("x", service=True), a_task("y", service=True)))
    drive(hello())
    drive(started("x"))
    drive(started("y"))
    drive(ready("x"))
    lines = drive(ready("y"))
    assert lines[-2:] == ["y#1 ready->stopping run_complete", "0: stop y#1 5"]
    assert "0: stop x#1 5" in lines


def test_a_second_signal_forces_everything_at_once() -> None:
    drive = Driver(a_plan(a_task("db", service=True), a_task("load", "db")))
    drive(hello())
    drive(started("db"))
    drive(ready("db"))
    drive(started("load"))
    drive(StopRequested(signal="SIGINT"))
    assert drive(StopRequested(signal="SIGINT", force=True)) == [
        "db#1 ready->stopping interrupted",
        "0: stop db#1 0",
        "0: stop load#1 0",
    ]


def test_nothing_starts_after_a_stop() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b", "a")))
    drive(hello())
    drive(started("a"))
    drive(StopRequested(signal="SIGINT"))
    assert drive(exited("a", code=0)) == ["a#1 stopping->cancelled interrupted", "0: leave 5"]
    assert drive.state("b") is TaskState.CANCELLED


def test_a_lost_node_loses_its_attempts_and_the_run_fails_with_that_cause() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b", placement=Placement(nodes=(1,))), nodes=2))
    drive(hello(0))
    drive(hello(1, "s2"))
    drive(started("a"))
    drive(started("b", node=1))
    assert drive(AgentLost(node=1, reason="silent for 30 s")) == [
        "1: abandon",
        "b#1 running->lost node_lost",
        "a#1 running->stopping fail_fast",
        "0: stop a#1 5",
    ]
    drive(exited("a", signal=15))
    assert drive(goodbye(0)) == ["finish failed"]
    assert "localhost-1" in str(drive.run.cause)


def test_a_lost_attempt_is_retried_on_another_node_when_it_may_run_there() -> None:
    either = Placement(nodes=(0, 1), is_flexible=True)
    drive = Driver(a_plan(a_task("a", retries=1, interval_s=0.0, placement=either), nodes=2))
    drive(hello(0))
    drive(hello(1, "s2"))
    drive(started("a"))
    drive.lose(0, "killed")
    assert drive(WakeUp(), now=1.0)[-1] == "1: spawn a#2"


def test_a_task_whose_only_node_is_lost_can_never_start() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b", "a", placement=Placement(nodes=(1,))), nodes=2))
    drive(hello(0))
    drive(hello(1, "s2"))
    drive.lose(1, "killed")
    drive(started("a"))
    assert "b#0 queued->lost node_lost" in drive(exited("a"))


def test_an_agent_that_never_reports_ends_the_run_as_infrastructure() -> None:
    drive = Driver(a_plan(a_task("a"), nodes=2))
    drive(hello(0))
    drive(started("a"))
    drive.lose(1, "no message")
    drive(exited("a", signal=15))
    assert drive(goodbye(0)) == ["finish infrastructure"]


def test_a_reconnecting_agent_is_adopted_with_what_it_has() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b"), a_task("c")))
    drive(hello())
    drive(started("a"))
    drive(started("b"))
    live = LiveRank(rank("a"), 1, 0)
    lines = drive(hello(session="s2", live=(live,), exited=(exited("b").message,)))  # type: ignore[arg-type]
    assert lines == ["0: accept s2", "b#1 running->completed exit", "0: spawn c#1"]


def test_a_reconnecting_agent_gets_the_ranks_that_must_not_live() -> None:
    drive = Driver(a_plan(a_task("a", retries=1)))
    drive(hello())
    drive(started("a"))
    drive(exited("a", code=1))
    assert drive(hello(session="s2", live=(LiveRank(rank("a"), 1, 0),))) == ["0: accept s2 kill a#1"]


def test_a_stop_is_ordered_again_after_a_reconnect() -> None:
    drive = Driver(a_plan(a_task("a")))
    drive(hello())
    drive(started("a"))
    drive(StopRequested(signal="SIGINT"))
    assert drive(hello(session="s2", live=(LiveRank(rank("a"), 1, 0),))) == ["0: accept s2", "0: stop a#1 5"]


def test_a_restarted_agent_has_lost_its_attempts() -> None:
    drive = Driver(a_plan(a_task("a")))
    drive(hello())
    drive(started("a"))
    assert "a#1 running->lost agent_died" in drive(hello(session="s2", incarnation=2))


def test_leftovers_die_with_a_restarted_agent() -> None:
    drive = Driver(a_plan(a_task("a"), a_task("b")))
    drive(hello())
    drive(started("b"))
    drive(exited("a", cleared=False))
    drive(hello(session="s2", live=(LiveRank(rank("b"), 1, 0),), incarnation=2))
    assert not drive.task("a").is_live


def test_a_lost_node_that_comes_back_is_abandoned_again() -> None:
    drive = Driver(a_plan(a_task("a"), nodes=2))
    drive(hello(0))
    drive(hello(1, "s2"))
    drive(started("a"))
    drive.lose(1, "silent")
    assert drive(hello(1, "s3")) == ["1: abandon"]
    assert drive(AgentLost(node=1, reason="again")) == []


def test_an_agent_that_does_not_end_a_task_in_time_is_given_up() -> None:
    drive = Driver(a_plan(a_task("a")))
    drive(hello())
    drive(started("a"))
    drive(StopRequested(signal="SIGINT"), now=1.0)
    lines = drive(WakeUp(), now=1.0 + DEFAULT_GRACE_S + STOP_OVERDUE_S)
    assert lines == ["0: abandon", "a#1 stopping->cancelled interrupted", "finish interrupted"]


def test_an_agent_that_does_not_leave_in_time_is_given_up() -> None:
    drive = Driver(a_plan(a_task("a")))
    drive(hello())
    drive(exited("a"), now=1.0)
    assert drive(WakeUp(), now=1.0 + LEAVE_OVERDUE_S) == ["0: abandon", "finish completed"]


def test_an_agent_that_reconnects_while_leaving_gets_the_order_again() -> None:
    drive = Driver(a_plan(a_task("a")))
    drive(hello())
    drive(exited("a"))
    assert drive(hello(session="s2")) == ["0: accept s2", "0: leave 5"]


def test_no_more_than_max_running_at_once_in_plan_order() -> None:
    drive = Driver(a_plan(*(a_task(f"t{i}") for i in range(5)), max_running=2))
    assert drive(hello())[-1] == "0: spawn t0#1 t1#1"
    assert drive(exited("t1"))[-1] == "0: spawn t2#1"


def test_tasks_queue_for_gpus_and_smaller_ones_pass() -> None:
    def wants(count: int) -> Placement:
        return Placement(nodes=(0,), is_flexible=True, gpus_per_node=count)

    tasks = (
        a_task("big", placement=wants(3)),
        a_task("big2", placement=wants(3)),
        a_task("small", placement=wants(1)),
    )
    drive = Driver(a_plan(*tasks, gpus=4))
    assert drive(hello())[-1] == "0: spawn big#1 small#1"
    drive(exited("small"))
    assert drive(exited("big"))[-1] == "0: spawn big2#1"


def test_a_flexible_gang_gets_the_same_indices_on_every_node() -> None:
    gang = Placement(nodes=(0, 1, 2), is_flexible=True, node_count=2, gpus_per_node=2)
    drive = Driver(
        a_plan(
            a_task("x", placement=Placement(nodes=(0,), gpus=(0,))),
            a_task("g", placement=gang),
            nodes=3,
            gpus=2,
        )
    )
    for node in range(3):
        drive(hello(node, f"s{node}"))
    taken = drive.task("g").attempt.placement
    assert taken is not None
    assert (taken.nodes, taken.gpus) == ((1, 2), (0, 1))


def test_a_retried_service_makes_waiting_dependants_wait_again() -> None:
    one = Placement(nodes=(0,), is_flexible=True, gpus_per_node=1)
    tasks = (
        a_task("blocker", placement=one),
        a_task("s", service=True, retries=1),
        a_task("c", "s", placement=one),
    )
    drive = Driver(a_plan(*tasks, gpus=1))
    drive(hello())
    drive(started("s"))
    drive(ready("s"))
    assert drive.state("c") is TaskState.QUEUED
    assert drive(exited("s", code=1)) == ["s#1 ready->waiting retry", "c#0 queued->waiting dependencies"]
    drive(exited("blocker"))
    assert drive.state("c") is TaskState.WAITING
    drive(WakeUp(), now=10.0)
    drive(started("s", 2))
    assert "0: spawn c#1" in drive(ready("s", 2))


def test_a_finished_run_does_nothing_more() -> None:
    drive = Driver(a_plan(a_task("a")))
    drive(hello())
    drive(exited("a"))
    assert drive(goodbye()) == ["finish completed"]
    assert drive(StopRequested(signal="SIGINT")) == []
    assert drive.scheduler.next_wakeup() is None


def test_starts_decided_in_the_event_that_stops_the_run_are_never_ordered() -> None:
    either = Placement(nodes=(0,), is_flexible=True)
    gone = Placement(nodes=(1,), is_flexible=True)
    drive = Driver(
        a_plan(a_task("a"), a_task("b", "a", placement=either), a_task("c", "a", placement=gone), nodes=2)
    )
    drive(hello(0))
    drive(hello(1, "s2"))
    drive(started("a"))
    drive.lose(1, "killed")
    lines = drive(exited("a"))
    assert "c#0 queued->lost node_lost" in lines
    assert "b#1 starting->cancelled fail_fast" in lines
    assert not [line for line in lines if "spawn" in line]
