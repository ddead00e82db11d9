"""What is measured when, and what is on its way: by events and properties, without a clock."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import Sampled
from protocol.messages.monitor import MonitorOrders, NodeMonitor, RankWindow, Reading, SampledScope, Scope
from sflow_agent.monitor import sampling
from sflow_agent.monitor.sampling import (
    FIRST_AFTER_S,
    MAX_IN_FLIGHT,
    ActiveMonitors,
    ReadingQueue,
    SampleTimes,
)


def scope(name: Scope, interval_ms: int) -> SampledScope:
    return SampledScope(scope=name, interval_ms=interval_ms)


def reading(number: int) -> Reading:
    return Reading(scope="cpu", at_ms=number, values=(1.0,))


WHOLE = NodeMonitor(scopes=(scope("cpu", 5000), scope("memory", 5000)))
OF_A = NodeMonitor(
    scopes=(scope("cpu", 500), scope("gpu", 1000)),
    tasks=("a_0", "a_1"),
    gpu_fields=("index", "power.draw"),
    script="x",
)


def test_one_sampler_measures_each_scope_at_the_finest_interval_of_active_monitors() -> None:
    active = ActiveMonitors(MonitorOrders(monitors=(WHOLE, OF_A)))
    assert active.intervals() == {"cpu": 5.0, "memory": 5.0}
    assert active.started("a_1")
    assert active.intervals() == {"cpu": 0.5, "memory": 5.0, "gpu": 1.0}
    assert active.scripts() == ("x",)
    active.ended("a_1")
    assert active.intervals() == {"cpu": 5.0, "memory": 5.0}
    assert active.scripts() == ()


def test_a_task_is_measured_until_its_last_rank_is_gone() -> None:
    active = ActiveMonitors(MonitorOrders(monitors=(OF_A,)))
    assert active.started("a_0")
    assert not active.started("a_1")
    assert not active.started("other")
    assert not active.ended("a_0")
    assert active.intervals()
    assert active.ended("a_1")
    assert not active.intervals()
    assert not active.ended("other")


def test_a_task_that_its_own_monitor_names_again_counts_once() -> None:
    monitor = NodeMonitor(scopes=(scope("cpu", 500),), tasks=("a", "a"))
    active = ActiveMonitors(MonitorOrders(monitors=(monitor,)))
    assert active.started("a")
    assert active.ended("a")


def test_the_fields_of_gpus_are_those_of_all_monitors_that_have_them() -> None:
    other = NodeMonitor(scopes=(scope("gpu", 100),), gpu_fields=("index", "memory.used"))
    assert ActiveMonitors(MonitorOrders(monitors=(WHOLE, OF_A, other))).gpu_fields == (
        "index",
        "power.draw",
        "memory.used",
    )


def test_the_first_reading_follows_soon_and_then_every_interval() -> None:
    times = SampleTimes()
    assert times.change({"cpu": 5.0}, 100.0) == (["cpu"], [])
    assert times.next_at() == 100.0 + FIRST_AFTER_S
    assert times.take_due(100.0 + FIRST_AFTER_S) == ["cpu"]
    assert times.next_at() == 105.0 + FIRST_AFTER_S
    assert times.take_due(104.0) == []


def test_missed_readings_are_skipped_not_made_up_for() -> None:
    times = SampleTimes()
    times.change({"cpu": 1.0}, 0.0)
    assert times.take_due(10.5) == ["cpu"]
    assert times.take_due(10.5) == []
    at = times.next_at()
    assert at is not None
    assert 10.5 < at <= 11.5


def test_a_finer_interval_counts_at_once_and_an_ended_scope_is_named() -> None:
    times = SampleTimes()
    times.change({"cpu": 60.0, "disk": 60.0}, 0.0)
    times.take_due(FIRST_AFTER_S)
    assert times.change({"cpu": 0.5}, 1.0) == ([], ["disk"])
    assert times.next_at() == 1.5
    assert times.scopes == ["cpu"]


@given(
    interval_ms=st.integers(100, 10_000),
    waits=st.lists(st.floats(0.001, 30.0), min_size=1, max_size=50),
)
def test_no_scope_is_measured_more_often_than_its_interval(interval_ms: int, waits: list[float]) -> None:
    times, now, measured = SampleTimes(), 0.0, []
    times.change({"cpu": interval_ms / 1000}, now)
    for wait in waits:
        now += wait
        measured += [now] * len(times.take_due(now))
    assert len(measured) <= now / (interval_ms / 1000) + 1
    assert len(set(measured)) == len(measured)


def numbers(messages: list[Sampled]) -> list[int]:
    return [one.number for one in messages]


def test_readings_travel_together_after_a_second() -> None:
    queue = ReadingQueue(("index",))
    queue.add([reading(1)], 10.0)
    queue.add([reading(2)], 10.4)
    assert queue.take(10.9, 5) == []
    (message,) = queue.take(11.0, 5)
    assert [one.at_ms for one in message.readings] == [1, 2]
    assert (message.number, message.sent_at_ms, message.gpu_fields) == (1, 5, ("index",))
    assert queue.next_wakeup() is None


def test_few_messages_are_on_their_way_until_the_controller_has_written_them() -> None:
    queue, now = ReadingQueue(), 0.0
    sent: list[Sampled] = []
    for number in range(20):
        now += 2.0
        queue.add([reading(number)], now - 1.5)
        sent += queue.take(now, 0)
    assert numbers(sent) == list(range(1, MAX_IN_FLIGHT + 1))
    assert queue.next_wakeup() is None
    queue.note_stored(2)
    (late,) = queue.take(now, 0)
    assert [one.at_ms for one in late.readings] == list(range(MAX_IN_FLIGHT, 20))


def test_an_answer_for_what_was_never_sent_opens_nothing() -> None:
    queue = ReadingQueue()
    queue.note_stored(1_000_000)
    assert queue.stored == 0


def test_too_many_readings_drop_the_oldest_and_count_them() -> None:
    queue = ReadingQueue()
    many = sampling.MAX_QUEUED + 7
    queue.add([reading(number) for number in range(many)], 0.0)
    messages = queue.take(0.0, 0, is_last=True)
    kept = [one.at_ms for message in messages for one in message.readings]
    assert kept == list(range(7, many))
    assert {message.dropped for message in messages} == {7}


def test_a_window_is_sent_at_once_and_the_end_waits_for_no_answer() -> None:
    queue = ReadingQueue()
    window = RankWindow(rank=RankId(AttemptId("a", 1), 0), log="a/a.log")
    queue.add_window(window, 3.0)
    (message,) = queue.take(3.0, 0)
    assert message.windows == (window,)
    for _ in range(MAX_IN_FLIGHT):
        queue.add([reading(1)], 4.0)
        queue.take(6.0, 0)
    queue.add([reading(2)], 6.0)
    assert queue.take(9.0, 0) == []
    assert len(queue.take(9.0, 0, is_last=True)) == 1


@given(
    st.lists(
        st.one_of(st.integers(1, 30), st.just("stored"), st.just("wait")),
        max_size=60,
    )
)
def test_every_reading_arrives_once_and_in_order(steps: list[int | str]) -> None:
    queue, now, made = ReadingQueue(), 0.0, 0
    sent: list[Sampled] = []
    for step in steps:
        if isinstance(step, int):
            queue.add([reading(made + one) for one in range(step)], now)
            made += step
        elif step == "stored":
            queue.note_stored(len(sent))
        now += 0.4
        sent += queue.take(now, 0)
        assert queue.number - queue.stored <= MAX_IN_FLIGHT
    sent += queue.take(now, 0, is_last=True)
    assert [one.at_ms for message in sent for one in message.readings] == list(range(made))
    assert numbers(sent) == list(range(1, len(sent) + 1))
