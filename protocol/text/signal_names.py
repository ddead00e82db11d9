"""Names of signals in messages and files, by the standard library's table. Source: signal(7)."""

from signal import Signals

SIGNAL_NAMES = tuple(signal.name for signal in Signals)


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9; `signal 40` for one without a name."""
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def signal_number(text: str) -> int | None:
    """Return 15 for `SIGTERM`, `term` or `15`; None for a text that does not name a signal."""
    word = text.strip().upper()
    if word.isdecimal():
        return int(word) if 1 <= int(word) <= 64 else None
    name = word if word.startswith("SIG") else f"SIG{word}"
    return Signals[name].value if name in Signals.__members__ else None
