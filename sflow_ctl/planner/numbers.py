"""Converts integers, seconds and flags as a file may write them: numbers, text, durations."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from protocol.text.lazy_pattern import lazy_pattern

T = TypeVar("T")

_CLOCK = lazy_pattern(r"(\d+):(\d{1,2})(?::(\d{1,2}(?:\.\d+)?))?", re.ASCII)
"""`MM:SS` or `HH:MM:SS`."""
_CLOCK_WITH_DAYS = lazy_pattern(r"(\d+)-(\d+)(?::(\d{1,2}))?(?::(\d{1,2}(?:\.\d+)?))?", re.ASCII)
"""`D-HH`, `D-HH:MM` or `D-HH:MM:SS`."""
_PARTS = lazy_pattern(
    r"(?:(\d+(?:\.\d+)?)\s*d)?\s*(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s)?$"
)
_SIZE = lazy_pattern(r"(\d{1,9}(?:\.\d+)?)\s*([KMGTkmgt])i?[Bb]?")
_MILLISECONDS = lazy_pattern(r"(\d+(?:\.\d+)?)\s*ms$")


MOST = 2**53
"""What every program that reads a plan's JSON has exactly."""


class NumberError(ValueError):
    """A value that its field does not accept; the text says what was expected."""

    path: tuple[str | int, ...] = ()
    """The field below what is being planned; empty where only the caller knows it."""


def at(path: tuple[str | int, ...], convert: Callable[..., T], value: Any, *limits: int) -> T:
    """Convert the value of the field at `path`. Raises: NumberError that knows the field."""
    try:
        return convert(value, *limits)
    except NumberError as error:
        error.path = path
        raise


def as_int(value: Any, least: int | None = None) -> int:
    """Return an integer from an integer, an integral float or decimal text. Raises: NumberError."""
    result: int | None = None
    if isinstance(value, bool):
        result = int(value)
    elif isinstance(value, int):
        result = value
    elif isinstance(value, float) and value.is_integer():
        result = int(value)
    elif isinstance(value, str):
        try:
            result = int(value.strip())
        except ValueError:
            result = _integral(value)
    if result is None:
        raise NumberError(f"must be a whole number, is {value!r}")
    if abs(result) > MOST:
        raise NumberError(f"must be at most {MOST}")
    if least is not None and result < least:
        raise NumberError(f"must be at least {least}, is {result}")
    return result


MAX_COUNT = 100_000
"""Of what a plan lists one by one: nodes, GPUs, processes."""


def as_count(value: Any, least: int | None = None) -> int:
    """Return the number of things that a plan lists one by one. Raises: NumberError."""
    result = as_int(value, least)
    if result > MAX_COUNT:
        raise NumberError(f"must be at most {MAX_COUNT}, is {result}")
    return result


def as_list(text: str) -> list[Any]:
    """Return the list that a text is as JSON, or the text as the only member."""
    import json  # only for expressions that give lists as text

    try:
        value = json.loads(text)
    except ValueError:
        return [text]
    return value if isinstance(value, list) else [text]


def as_seconds(value: Any) -> float:
    """Return seconds from a number, numeric text, `90s`, `10m`, `1h30m`, `2d`, or a time of Slurm.

    Raises: NumberError.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return _not_negative(float(value), value)
        except OverflowError:
            raise NumberError(f"must be at most {MOST} seconds") from None
    text = str(value).strip()
    try:
        return _not_negative(float(text), value)
    except ValueError:
        pass
    if match := _MILLISECONDS.match(text):
        return float(match[1]) / 1000
    if (seconds := clock_seconds(text)) is not None:
        return seconds
    if (match := _PARTS.match(text)) and any(match.groups()):
        units = (86400, 3600, 60, 1)
        return sum(float(part) * unit for part, unit in zip(match.groups(), units, strict=True) if part)
    raise NumberError(f"must be seconds or a duration such as 90s, 10m, 2h or 01:30:00, is {value!r}")


def as_bytes(value: Any) -> int:
    """Return bytes from a size with a unit of 1024: `512M`, `8G`, `1.5 TiB`. Raises: NumberError."""
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise NumberError(f"must be a size with a unit, such as 512M or 8G, is {value!r}")
    return int(float(match[1]) * 1024 ** ("KMGT".index(match[2].upper()) + 1))


def clock_seconds(text: str) -> float | None:
    """Return seconds from `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`; None for any other text.

    Source: sbatch(1), --time.
    """
    if match := _CLOCK_WITH_DAYS.fullmatch(text):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if match := _CLOCK.fullmatch(text):
        first, second = float(match[1]), float(match[2])
        return first * 60 + second if match[3] is None else (first * 60 + second) * 60 + float(match[3])
    return None


def _integral(text: str) -> int | None:
    """Return the integer that a decimal text such as `2.0` is, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _not_negative(seconds: float, value: Any) -> float:
    if not 0 <= seconds < float("inf"):
        raise NumberError(f"must be 0 or more seconds, is {value!r}")
    return seconds


def as_flag(value: Any) -> bool:
    """Return true or false from a boolean or its text. Raises: NumberError."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "y", "on"):
        return True
    if text in ("false", "0", "no", "n", "off", ""):
        return False
    raise NumberError(f"must be true or false, is {value!r}")
