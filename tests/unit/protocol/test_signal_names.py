"""Names and numbers of signals."""

import pytest

from protocol.text.signal_names import signal_name, signal_number


@pytest.mark.parametrize(
    ("text", "number"), [("SIGTERM", 15), (" term ", 15), ("15", 15), ("cld", 17), ("64", 64)]
)
def test_a_signal_is_found_by_name_and_number(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["0", "65", "nosuch", "", "sig", "__init__"])
def test_other_texts_do_not_name_a_signal(text: str) -> None:
    assert signal_number(text) is None


def test_signals_are_named() -> None:
    assert [signal_name(number) for number in (9, 6, 29, 40)] == ["SIGKILL", "SIGABRT", "SIGIO", "signal 40"]
