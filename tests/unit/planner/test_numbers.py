"""Integers, durations and flags as people write them."""

import pytest

from sflow_ctl.planner.numbers import NumberError, as_flag, as_int, as_seconds


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (5, 5), (0, 0), (1.5, 1.5), ("0.25", 0.25), ("30s", 30), ("90m", 5400), ("2h", 7200), ("1d", 86400), ("1h30m", 5400),
        ("01:30:00", 5400), ("12:00:00", 43200), ("1-00:00:00", 86400), ("250ms", 0.25), (" 10 ", 10), ("1.5h", 5400),
    ],
)  # fmt: skip
def test_durations(written: object, seconds: float) -> None:
    assert as_seconds(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "soon", "5x", -1, "-1", "nan", "inf", True, None, [1], "1:2:3:4", "s"]
)
def test_invalid_durations_are_refused(written: object) -> None:
    with pytest.raises(NumberError):
        as_seconds(written)


@pytest.mark.parametrize(("written", "number"), [(3, 3), (2.0, 2), (" 7 ", 7), (True, 1), ("-2", -2)])
def test_integers(written: object, number: int) -> None:
    assert as_int(written) == number


@pytest.mark.parametrize("written", [1.5, "1.5", "x", None, [1], ""])
def test_invalid_integers_are_refused(written: object) -> None:
    with pytest.raises(NumberError, match="must be a whole number"):
        as_int(written)


def test_limits_are_named_in_the_message() -> None:
    with pytest.raises(NumberError, match="must be at least 1, is 0"):
        as_int("0", 1)


def test_flags() -> None:
    assert [as_flag(v) for v in (True, "yes", "On", "1", 1)] == [True] * 5
    assert [as_flag(v) for v in (False, "no", "off", "0", "", 0)] == [False] * 6
    with pytest.raises(NumberError):
        as_flag("perhaps")
