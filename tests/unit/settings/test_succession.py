"""What a controller hands to the next one: each type of it can be read again, and times of another machine become ours."""

import time

import pytest

from sflow_ctl.runtime.journal.entry import Begin, Entry
from sflow_ctl.runtime.record import processes
from sflow_ctl.runtime.supervision.history import clock_shift
from sflow_ctl.runtime.supervision.succession import decoded


def test_the_types_of_a_succession_can_be_decoded() -> None:
    with pytest.raises(ValueError, match="missing required field"):
        decoded(b"\x80")


def test_times_of_another_machine_are_turned_into_those_of_this_one() -> None:
    """Its monotonic clock began elsewhere; both have the time of day."""
    written_s_ago = 30.0
    there = Entry(
        seq=1, incarnation=1, wall_ns=time.time_ns() - int(written_s_ago * 1e9), at=5_000.0, kind="begin"
    )
    shift_s = clock_shift(there, Begin(1, 1, "1", boot="another"))
    assert there.at + shift_s == pytest.approx(time.monotonic() - written_s_ago, abs=20.0)
    assert clock_shift(there, Begin(1, 1, "1", boot=processes.boot())) == 0.0, (
        "a clock that was set is no other"
    )
