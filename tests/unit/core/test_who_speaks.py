"""Only the agent of the node that a rank was placed on may speak of it: facts of others are counted and change nothing."""

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import (
    FromAgent,
    LaunchFailed,
    Leased,
    LiveRank,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankIdle,
    RankStarted,
)
from sflow_ctl.core.commands import AcceptAgent
from sflow_ctl.core.events import MessageReceived, WakeUp
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Placement
from tests.unit.core.driver import Driver
from tests.unit.core.plans import HTTP, a_plan, a_task, exited, hello, rank, ready, started

VICTIM = rank("victim")
HOSTILE_FACTS: dict[str, FromAgent] = {
    "started": RankStarted(rank=VICTIM, pid=666, started_at_ns=0),
    "exited well": RankExited(rank=VICTIM, exit_code=0),
    "exited badly": RankExited(rank=VICTIM, exit_code=1, port_conflict="port 80 is taken"),
    "cleared": RankCleared(rank=VICTIM, survivors=("1 init",)),
    "launch failed": LaunchFailed(rank=VICTIM, errno=2, reason="no"),
    "ready": ProbeTriggered(attempt=VICTIM.attempt, kind="readiness", detail="up"),
    "failure probe": ProbeTriggered(attempt=VICTIM.attempt, kind="failure", detail="bad"),
    "waiting": ProbeWaiting(attempt=VICTIM.attempt, kind="readiness", detail="for a port"),
    "idle": RankIdle(rank=VICTIM, kind="output", is_quiet=True),
    "a rank that there is not": RankExited(rank=rank("victim", number=7), exit_code=1, port_conflict="x"),
    "a rank below 0": RankExited(rank=rank("victim", number=-1), exit_code=1),
    "a probe of a rank that there is not": ProbeTriggered(
        attempt=VICTIM.attempt, rank=9, kind="readiness", detail="up"
    ),
    "a task that there is not": RankExited(rank=RankId(AttemptId("../../x", 1), 0), exit_code=0),
    "an attempt that there is not": RankExited(rank=rank("victim", attempt=5), exit_code=0),
    "ports": Leased(task="victim", number=1, ports={"http": (1,)}),
}


def two_nodes() -> Driver:
    """`victim` runs on node 0, and node 1 has a task of its own."""
    victim = a_task("victim", service=True, retries=1, ports=(HTTP,))
    drive = Driver(a_plan(victim, a_task("own", placement=Placement(nodes=(1,))), nodes=2))
    drive(hello(), now=0.0)
    drive(hello(1, "s2"), now=0.0)
    drive(MessageReceived(node=0, message=Leased(task="victim", number=1, ports={"http": (7,)})), now=0.0)
    drive(started("victim"), now=0.0)
    assert drive.task("victim").state is TaskState.RUNNING
    return drive


@pytest.mark.parametrize("what", HOSTILE_FACTS)
def test_a_fact_about_another_nodes_rank_changes_nothing(what: str) -> None:
    drive = two_nodes()
    assert drive(MessageReceived(node=1, message=HOSTILE_FACTS[what]), now=1.0) == []
    assert drive.task("victim").state is TaskState.RUNNING
    assert not drive.run.survivors
    if not isinstance(HOSTILE_FACTS[what], Leased):  # whose answer was asked of node 0
        assert drive.scheduler.ignored_messages().foreign == 1


def test_a_hello_that_claims_a_rank_of_another_node_has_it_killed_there() -> None:
    drive = two_nodes()
    claim = hello(
        1,
        "s3",
        live=(LiveRank(VICTIM, 666, 0), LiveRank(rank("own"), 7, 0)),
        exited=(RankExited(rank=VICTIM, exit_code=1),),
        triggered=(ProbeTriggered(attempt=VICTIM.attempt, kind="readiness", detail="up"),),
        session_number=1,
    )
    assert [accepted.kill for accepted in drive(claim, now=1.0).of(AcceptAgent)] == [(VICTIM,)]
    assert drive.task("victim").state is TaskState.RUNNING
    assert drive.task("victim").attempt.pid == 1
    assert drive.scheduler.ignored_messages().foreign == 3


def test_facts_of_a_gang_count_from_the_node_of_each_rank() -> None:
    gang = a_task("gang", placement=Placement(nodes=(0, 1)), ranks_per_node=(1, 1))
    drive = Driver(a_plan(gang, nodes=2))
    drive(hello(), now=0.0)
    drive(hello(1, "s2"), now=0.0)
    drive(started("gang", node=1, rank_number=0), now=0.0)
    assert drive.task("gang").attempt.unstarted == {0, 1}
    drive(started("gang", node=0, rank_number=0), now=0.0)
    drive(started("gang", node=1, rank_number=1), now=0.0)
    assert drive.task("gang").state is TaskState.RUNNING


def test_r10_a_late_fact_of_an_earlier_attempt_is_stale_and_counted() -> None:
    drive = Driver(a_plan(a_task("a", retries=1, interval_s=0.0), nodes=1))
    drive(hello(), now=0.0)
    drive(started("a"), now=0.0)
    drive(exited("a", code=1), now=0.0)
    assert drive.task("a").attempt.number == 1
    drive(WakeUp(), now=0.0)
    assert drive.task("a").attempt.number == 2
    for late in (started("a"), exited("a"), ready("a")):
        assert drive(late, now=1.0) == []
    assert drive.scheduler.ignored_messages() == (3, 0)


def test_r10_a_node_that_was_given_up_does_not_count_any_more() -> None:
    drive = two_nodes()
    drive.lose(1, "silent", now=1.0)
    assert drive(exited("own", node=1), now=2.0) == []
    assert drive.scheduler.ignored_messages().stale == 1
