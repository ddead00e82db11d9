"""What a job of a chain does when it begins, and when its run has ended."""

import pytest

from sflow_ctl.batch.chain import UNCERTAIN, Beginning, Chain, begun, goes_on


def chain(cap: int = 3) -> Chain:
    return Chain(cap=cap, script="/s.sh")


def test_each_job_submits_the_next_up_to_the_cap() -> None:
    one = chain(cap=3)
    assert begun(one, "1", "a") == Beginning(submits=True)
    assert begun(one, "2", "b") == Beginning(submits=True)
    assert begun(one, "3", "c") == Beginning(note="this is the last of 3 jobs")
    assert begun(one, "4", "d") == Beginning("the chain has had its 3 jobs")
    assert [link.job_id for link in one.links] == ["1", "2", "3"]


def test_a_job_does_nothing_when_nothing_moved_in_the_one_before() -> None:
    one = chain()
    begun(one, "1", "a")
    found = begun(one, "2", "a")
    assert found.refusal == "nothing has moved in job 1: no task has completed, no watched file has changed"
    assert begun(one, "3", "b").refusal == found.refusal  # it is over


def test_a_job_of_a_chain_that_was_stopped_does_nothing() -> None:
    one = chain()
    begun(one, "1", "a")
    one.stopped = "the run has completed"
    assert begun(one, "2", "b") == Beginning("the run has completed")


@pytest.mark.parametrize(
    ("follow_up", "found"),
    [
        ("", Beginning(submits=True)),
        ("2", Beginning()),
        (UNCERTAIN, Beginning(note="a job that follows may have been submitted: none is submitted again")),
    ],
)
def test_a_job_that_is_requeued_submits_nothing_twice(follow_up: str, found: Beginning) -> None:
    one = chain()
    begun(one, "1", "a")
    one.links[0].follow_up = follow_up
    assert begun(one, "1", "a") == found
    assert len(one.links) == 1


@pytest.mark.parametrize(
    ("outcome", "reason", "follows"),
    [
        ("completed", "", False),
        ("failed", "exit", False),
        ("interrupted", "", False),
        ("timeout", "", False),  # the workflow's own limit
        ("timeout", "time_limit", True),
        ("terminated", "preempted", True),
        ("infrastructure", "node_lost", True),
    ],
)
def test_a_run_that_was_cut_off_is_continued(outcome: str, reason: str, follows: bool) -> None:
    assert goes_on(outcome, reason) is follows
