"""When checks are made: eagerly at first, then by the interval."""

import itertools

import pytest

from sflow_agent.core.poll_schedule import (
    CROWD_S,
    LATER_S,
    MIN_INTERVAL_S,
    PATIENCE_S,
    PollAgenda,
    PollSchedule,
    Turn,
)


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


# ---------------------------------------------------------------------- many checks


def agenda(most: int, *keys: str, timeout_s: float = 60.0, interval_s: float = 60.0) -> PollAgenda[str]:
    made: PollAgenda[str] = PollAgenda(most)
    for key in keys:
        made.add(key, PollSchedule(interval_s, 0.005, due=0.0), timeout_s)
    return made


def turns(made: PollAgenda[str], now: float) -> list[tuple[str, str]]:
    """Return the turns at a time; polls that are ended early end at once."""
    done: list[tuple[str, str]] = []
    while found := made.next_turn(now):
        for key, action, _ in found:
            done.append((key, action))
            if action == "give_up":
                made.ended(key, False, now)
    return done


def test_polls_begin_in_the_order_in_which_they_are_due() -> None:
    made = agenda(5, "a", "b")
    assert made.next_wakeup() == 0.0
    assert turns(made, 0.0) == [("a", "begin"), ("b", "begin")]
    assert made.next_wakeup() == 60.0
    made.ended("a", False, 1.0)
    assert turns(made, 59.0) == []


def test_a_poll_is_given_up_at_its_timeout_and_planned_again() -> None:
    made = agenda(5, "a", timeout_s=2.0, interval_s=10.0)
    turns(made, 0.0)
    (given_up,) = made.next_turn(2.0)
    assert given_up == Turn("a", "give_up", "within 2 s")
    made.ended("a", False, 2.0)
    assert made.next_wakeup() == 10.0


def test_the_oldest_poll_makes_room_once_it_has_had_its_time() -> None:
    made = agenda(2, "a", "b", "c")
    assert turns(made, 0.0) == [("a", "begin"), ("b", "begin")]
    assert made.next_wakeup() == LATER_S
    assert turns(made, PATIENCE_S - 0.1) == []
    found = made.next_turn(PATIENCE_S + LATER_S)
    assert [(turn.key, turn.action) for turn in found] == [("a", "give_up"), ("c", "begin")]
    assert found[0].why == "and had to make room for one of 3 checks"
    assert turns(made, 59.9) == []  # it is not begun again before its end is reported
    made.ended("a", False, 59.9)
    assert "a" in made


def test_a_removed_check_is_polled_no_more() -> None:
    made = agenda(1, "a", "b")
    turns(made, 0.0)
    made.remove("a")
    assert "a" not in made
    assert turns(made, LATER_S) == [("b", "begin")]
    made.remove("b")
    assert made.next_wakeup() is None


def test_a_sign_begins_a_poll_at_once_but_not_before_its_delay_or_beside_another() -> None:
    made: PollAgenda[str] = PollAgenda(3)
    made.add("a", PollSchedule(60.0, 0.005, due=5.0), 60.0)
    made.poll_now("a", 1.0)
    assert made.next_wakeup() == 5.0
    assert turns(made, 5.0) == [("a", "begin")]
    made.poll_now("a", 6.0)
    assert turns(made, 6.0) == []
    made.ended("a", False, 7.0)
    assert made.next_wakeup() == pytest.approx(9.0)  # eager, after a rest as long as the poll
    made.poll_now("a", 7.5)
    assert turns(made, 7.5) == [("a", "begin")]


def test_eager_polls_of_a_crowd_rest_for_each_other() -> None:
    made: PollAgenda[int] = PollAgenda(1000)
    for number in range(400):
        made.add(number, PollSchedule(60.0, 0.005, due=0.0 if number == 0 else 50.0, eager_since=0.0), 60.0)
    assert made.next_turn(0.0) == [Turn(0, "begin")]
    made.ended(0, False, 0.0)
    assert made.next_wakeup() == pytest.approx(400 * CROWD_S)
