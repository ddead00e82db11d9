"""When checks are made: eagerly at first, then by the interval."""

import itertools

import pytest

from sflow_agent.core.poll_schedule import MIN_INTERVAL_S, PollSchedule


def checks(schedule: PollSchedule, until: float, took_s: float = 0.0, holds: bool = False) -> list[float]:
    """The times at which checks begin."""
    begun = []
    while schedule.due < until:
        now = schedule.due
        begun.append(now)
        schedule.begin(now)
        schedule.end(holds, now + took_s)
    return begun


def test_without_eagerness_the_interval_counts_from_start_to_start() -> None:
    assert checks(PollSchedule(5.0, 0.005, due=1.0), 17.0, took_s=2.0) == [1.0, 6.0, 11.0, 16.0]


def test_a_check_longer_than_the_interval_is_followed_at_once() -> None:
    assert checks(PollSchedule(1.0, 0.005, due=0.0), 10.0, took_s=3.0) == [0.0, 3.0, 6.0, 9.0]


def test_eager_checks_rest_for_a_twentieth_of_the_time_that_has_passed() -> None:
    begun = checks(PollSchedule(5.0, 0.005, due=0.0, eager_since=0.0), 200.0)
    assert begun[:4] == pytest.approx([0.0, 0.005, 0.01, 0.015])
    for before, after in itertools.pairwise(begun):
        assert after - before <= max(0.005, before * 0.05) + 1e-9
        assert after - before <= 5.0
    assert len(begun) < 200
    assert begun[-1] - begun[-2] == 5.0


@pytest.mark.parametrize("interval_s", [0.0, 0.01, 0.3])
def test_an_eager_rest_is_never_longer_than_the_interval(interval_s: float) -> None:
    begun = checks(PollSchedule(interval_s, 0.005, due=0.0, eager_since=0.0), 30.0)
    rests = [after - before for before, after in itertools.pairwise(begun)]
    assert max(rests) <= max(interval_s, MIN_INTERVAL_S) + 1e-9


def test_a_slow_check_and_a_crowd_have_their_rest() -> None:
    assert checks(PollSchedule(60.0, 0.005, due=0.0, eager_since=0.0), 1.0, took_s=0.2) == pytest.approx(
        [0.0, 0.4, 0.8]
    )
    schedule = PollSchedule(60.0, 0.005, due=0.0, eager_since=0.0)
    schedule.begin(0.0)
    schedule.end(False, 0.0, crowd_s=0.5)
    assert schedule.due == 0.5


def test_success_ends_the_hurry() -> None:
    assert checks(PollSchedule(5.0, 0.005, due=0.0, eager_since=0.0), 12.0, holds=True) == [0.0, 5.0, 10.0]


def test_a_sign_brings_the_next_check_forward() -> None:
    schedule = PollSchedule(30.0, 0.005, due=0.0)
    schedule.begin(0.0)
    schedule.end(False, 0.0)
    assert schedule.due == 30.0
    schedule.poll_now(4.0)
    assert checks(schedule, 4.02) == pytest.approx([4.0, 4.005, 4.01, 4.015])
