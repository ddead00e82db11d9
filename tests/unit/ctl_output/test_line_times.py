"""Times that lines of logs begin with."""

from datetime import UTC, datetime

import pytest

from sflow_ctl.report.looking.line_times import SKEW_NS, AttemptTimes

START = datetime(2026, 3, 4, 5, 6, 0).astimezone()
START_NS = int(START.timestamp()) * 1_000_000_000
TIMES = AttemptTimes(START_NS, START_NS + 3600 * 1_000_000_000)


@pytest.mark.parametrize(
    ("line", "after_s"),
    [
        (b"2026-03-04 05:06:07,250 - app - INFO - x", 7.25),
        (b"2026-03-04T05:06:07.250 x", 7.25),
        (b"[2026-03-04 05:06:07 TP0] Load weight", 7.0),
        (b"INFO 03-04 05:06:07 [loader.py:1] x", 7.0),
        (b"I0304 05:06:07.250000 12 x.cc:3] x", 7.25),
        (b"\x1b[32m2026/03/04 05:06:07 [notice] 1#1: x", 7.0),
        (START.replace(second=9).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ x").encode(), 9.0),
        (START.replace(second=9).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00 x").encode(), 9.0),
        (b"2025-03-04 05:06:07 another year", None),
        (b"2026-13-04 05:06:07 no such month", None),
        (b"2026-03-04 07:06:07 after its end", None),
        (b"epoch 3: loss 0.1", None),
        (b"x" * 200 + b" 2026-03-04 05:06:07", None),
        (b"", None),
    ],
)
def test_only_a_time_within_the_attempt_is_one(line: bytes, after_s: float | None) -> None:
    found = TIMES.time_of(line)
    assert (None if found is None else (found - START_NS) / 1e9) == after_s


def test_a_run_over_new_year_has_both_years() -> None:
    start = datetime(2025, 12, 31, 23, 59, 0).astimezone()
    start_ns = int(start.timestamp()) * 1_000_000_000
    times = AttemptTimes(start_ns, start_ns + 600 * 1_000_000_000)
    assert times.time_of(b"INFO 12-31 23:59:10 x") == start_ns + 10_000_000_000
    assert times.time_of(b"INFO 01-01 00:01:00 x") == start_ns + 120_000_000_000


def test_clocks_may_differ_a_little() -> None:
    assert TIMES.time_of(b"2026-03-04 05:05:00 x") == START_NS - 60_000_000_000
    assert SKEW_NS == 120_000_000_000
