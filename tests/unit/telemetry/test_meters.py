"""Counters that never fall, and the rows of attempts."""

from protocol.ids import AttemptId, RankId
from protocol.messages.telemetry import RankUse
from sflow_agent.telemetry.looks import IoTotals, Look
from sflow_agent.telemetry.meters import Counter, Meters, Sums

FIRST, SECOND = RankId(AttemptId("a", 1), 0), RankId(AttemptId("a", 1), 1)


def sums(cpu_ms: int, rss_kib: int = 100, io: int | None = 5) -> Sums:
    made = Sums()
    totals = None if io is None else IoTotals(io, io, 0, io)
    made.add(Look(1, 1, 0, cpu_ms, 2, rss_kib), totals, None if io is None else 4)
    return made


def test_a_counter_keeps_what_ended_processes_took_with_them() -> None:
    counter = Counter()
    values = []
    for total in (100, 300, 50, 60, 400):
        counter.take(total)
        values.append(counter.value)
    assert values == [100, 300, 300, 310, 650]


def test_the_row_of_an_attempt_is_the_sum_over_its_ranks() -> None:
    meters = Meters()
    assert meters.take({FIRST: sums(100), SECOND: sums(50, rss_kib=7)}) == []
    row = meters.rows()["a#1"]
    assert {name: value for name, value in row.items() if value is not None} == {
        "cpu_ms": 150, "rss_kib": 107, "read_kib": 10, "written_kib": 10, "disk_read_kib": 0, "disk_written_kib": 10,
        "processes": 2, "threads": 4, "descriptors": 8,
    }  # fmt: skip


def test_a_rank_that_has_ended_counts_as_long_as_others_of_its_attempt_run() -> None:
    meters = Meters()
    meters.take({FIRST: sums(100), SECOND: sums(50)})
    assert meters.take({SECOND: sums(60)}) == [FIRST]
    row = meters.rows()["a#1"]
    assert (row["cpu_ms"], row["rss_kib"], row["processes"]) == (160, 100, 1)
    assert meters.take({}) == [SECOND]
    assert meters.rows() == {}
    assert meters.uses() == {}


def test_what_cannot_be_read_is_unknown() -> None:
    meters = Meters()
    meters.take({FIRST: sums(1, io=None)})
    row = meters.rows()["a#1"]
    assert (row["read_kib"], row["descriptors"], row["energy_mj"], row["gpus"]) == (None, None, None, None)


def test_the_use_of_a_rank_has_its_largest_memory() -> None:
    meters = Meters()
    meters.take({FIRST: sums(1500, rss_kib=10)})
    meters.take({FIRST: sums(2000, rss_kib=5)})
    assert meters.uses()[FIRST] == RankUse(cpu_s=2.0, max_rss_bytes=10240)


def test_the_kernels_account_completes_a_use() -> None:
    use = RankUse(cpu_s=1.0, max_rss_bytes=5000 * 1024)
    assert use.corrected(1.5, 6000, 4000) == RankUse(cpu_s=1.5, max_rss_bytes=6000 * 1024)
    assert use.corrected(0.5, 4000, 4000) == use
    assert RankUse().corrected(0.25, 4000, 4000) == RankUse(cpu_s=0.25)


def test_uses_of_ranks_add_up() -> None:
    one = RankUse(cpu_s=1.0, max_rss_bytes=10, other_gpus=("G",))
    other = RankUse(cpu_s=2.0, energy_j=3.0, other_gpus=("G", "H"))
    assert one.plus(other) == RankUse(cpu_s=3.0, max_rss_bytes=10, energy_j=3.0, other_gpus=("G", "H"))
    assert RankUse().plus(RankUse()) == RankUse()
