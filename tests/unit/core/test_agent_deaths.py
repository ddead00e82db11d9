"""Agents that die or end by themselves, and are started again: their tasks follow their policy on the same node."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from protocol.messages.facts import Ending
from sflow_ctl.core.events import AgentJoined, MessageReceived, WakeUp
from sflow_ctl.plan.parts.again import Retries
from sflow_ctl.plan.words import OnNodeLost
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, hello, started

KILLED = "was killed by SIGKILL"
WARNED = (
    "warn: agent-died: the agent of node localhost-0 was killed by SIGKILL; "
    "another one has joined, and the processes there have ended"
)


def next_agent(follows: str = "") -> AgentJoined:
    return hello(0, "s2", incarnation=2, follows=follows)


def test_a_task_runs_again_where_its_agent_was_killed() -> None:
    run = Driver(a_plan(a_task("a", retries=1, interval_s=0.0)))
    run(hello(), started("a"))
    said = run(next_agent(KILLED))
    assert said == [
        "0: accept s2",
        WARNED,
        "a#1 running->waiting retry",
    ]
    assert "the agent of node localhost-0 was killed by SIGKILL, and its processes were ended" in run.why("a")
    assert "0: spawn a#2" in run(WakeUp())


def test_a_task_without_retries_is_lost_with_its_agent() -> None:
    run = Driver(a_plan(a_task("a")))
    run(hello(), started("a"))
    assert "a#1 running->lost agent_died" in run(next_agent())


@pytest.mark.parametrize("word", ["agent_died", "node_lost"])
def test_retries_after_lost_nodes_are_retries_after_dead_agents(word: str) -> None:
    retries = Retries(count=1, interval_s=0.0, backoff=1.0, reasons=(word,))
    run = Driver(a_plan(replace(a_task("a"), retries=retries)))
    run(hello(), started("a"))
    assert "a#1 running->waiting retry" in run(next_agent())


@pytest.mark.parametrize(("rule", "move"), [("fail", "lost agent_died"), ("elsewhere", "waiting retry")])
def test_what_is_said_of_lost_nodes_holds_for_dead_agents(rule: OnNodeLost, move: str) -> None:
    run = Driver(a_plan(replace(a_task("a"), on_node_lost=rule)))
    run(hello(), started("a"))
    assert f"a#1 running->{move}" in run(next_agent())


def test_nothing_starts_on_a_node_whose_agent_ends_by_itself() -> None:
    """It says so before it ends its tasks: their exits say nothing of them, and what follows waits for the next agent."""
    run = Driver(a_plan(a_task("a", retries=1, interval_s=0.0), a_task("b", "a")))
    run(hello(), started("a"))
    ending = MessageReceived(node=0, message=Ending(reason="the agent's guardian is gone"))
    assert run(ending) == ["a#1 running->stopping agent_died", "0: stop a#1 5"]
    assert run(exited("a", signal=15)) == ["a#1 stopping->waiting retry"]
    assert "the agent of node localhost-0 ended with its processes: the agent's guardian is gone" in run.why(
        "a"
    )
    assert run(WakeUp()) == ["a#1 waiting->queued dependencies"], "it waits for an agent"
    assert run(next_agent())[-2:] == ["a#2 queued->starting placed", "0: spawn a#2"]


@pytest.mark.parametrize(
    ("begun", "followed", "now", "times"),
    [
        ((), (), 0.0, 0),
        ((), (5.0, 6.0), 10.0, 2),  # by its guardian
        ((), (5.0, 6.0), 605.5, 1),  # the first is too long ago
        ((4.0,), (5.0,), 10.0, 1),  # by the controller
        ((4.0,), (5.0, 6.0), 10.0, 2),  # by the controller, then by the next guardian
        ((4.0, 7.0), (5.0,), 10.0, 2),  # the second has not joined yet
        ((4.0, 7.0), (8.0,), 10.0, 2),  # the first has never joined
        ((4.0, 7.0), (), 605.0, 1),
    ],
)
def test_agents_in_place_of_others_count_once_each(
    begun: Sequence[float], followed: Sequence[float], now: float, times: int
) -> None:
    run = Driver(a_plan(a_task("a"))).scheduler
    run.run.nodes[0].followed_at = list(followed)
    assert run.agents_followed(0, begun, now) == times


def test_an_agent_counts_once_however_often_it_says_hello() -> None:
    run = Driver(a_plan(a_task("a", retries=3, interval_s=0.0)))
    run(hello(), started("a"))
    assert WARNED in run(next_agent(KILLED))
    run(hello(0, "s3", incarnation=2, follows=KILLED))
    assert run.scheduler.agents_followed(0, (), run.now) == 1
    assert WARNED in run(hello(0, "s4", incarnation=3, follows=KILLED))
    assert run.scheduler.agents_followed(0, (), run.now) == 2
