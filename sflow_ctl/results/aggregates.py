"""Makes one value of many: the `type` and `aggregate` of a metric. Pure.

A NaN among the values makes every numeric aggregate NaN, whatever their order, as in numpy.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from protocol.text.lazy_pattern import lazy_pattern

_PERCENTILE = lazy_pattern(r"p(\d{1,2}(?:\.\d+)?|100)$")
_TRUE = ("true", "1", "yes", "y", "on")


class AggregateError(ValueError):
    """Values that a type or an aggregate does not accept."""


def _to_int(value: Any) -> int:
    """Return an integer; only a text in another notation goes through a float, which is exact up to 2**53."""
    try:
        return int(value) if not isinstance(value, float) else int(float(value))
    except ValueError:
        return int(float(value))


def _to_bool(value: Any) -> bool:
    return str(value).strip().lower() in _TRUE


_TYPES: dict[str, Callable[[Any], Any]] = {
    "int": _to_int,
    "integer": _to_int,
    "float": float,
    "number": float,
    "str": str,
    "string": str,
    "bool": _to_bool,
    "boolean": _to_bool,
}
_ANY_VALUES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "list": list,
    "count": len,
}
_ORDERED: dict[str, Callable[[Sequence[Any]], Any]] = {"min": min, "max": max}
"""Aggregates that also work for texts."""


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


_NUMERIC: dict[str, Callable[[Sequence[Any]], Any]] = {
    "sum": sum,
    "mean": statistics.fmean,
    "avg": statistics.fmean,
    "average": statistics.fmean,
    "median": statistics.median,
    "std": _deviation,
    "stdev": _deviation,
}


def is_aggregate(name: str) -> bool:
    """Return True for the name of an aggregate: mean, max, p99, ..."""
    return name in _ANY_VALUES or name in _ORDERED or name in _NUMERIC or _PERCENTILE.match(name) is not None


def summarised(values: Sequence[Any], kind: str | None, how: str | None) -> Any:
    """Return the values in their type, made one by `how`; without it a single value is itself and several are a list.

    Unknown names change nothing: they were free text in files written for the reference. Raises: AggregateError.
    """
    try:
        typed = [_TYPES[kind](value) for value in values] if kind in _TYPES else list(values)
        if how is None or not is_aggregate(how):
            return typed[0] if len(typed) == 1 else typed
        if how in _ANY_VALUES:
            return _ANY_VALUES[how](typed)
        if how in _ORDERED and all(isinstance(value, str) and _as_number(value) is None for value in typed):
            return _ORDERED[how](typed)
        return _of_numbers([_number(value) for value in typed], how)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise AggregateError(f"{error}") from error


def _of_numbers(numbers: Sequence[Any], how: str) -> Any:
    if any(isinstance(value, float) and math.isnan(value) for value in numbers):
        return math.nan
    percentile = _PERCENTILE.match(how)
    if percentile is not None:
        return _percentile(sorted(numbers), float(percentile[1]))
    if how in _ORDERED:
        return _ORDERED[how](numbers)
    if how in ("std", "stdev") and any(isinstance(value, float) and math.isinf(value) for value in numbers):
        return math.nan  # as numpy; Python 3.11's stdev raises AttributeError
    return _NUMERIC[how](numbers)


def _number(value: Any) -> Any:
    """Return a value as a number. Raises: AggregateError."""
    if isinstance(value, int | float):
        return value
    number = _as_number(value) if isinstance(value, str) else None
    if number is None:
        raise AggregateError(f"{str(value)[:100]!r} is not a number")
    return number


def _as_number(text: str) -> int | float | None:
    """Return the number that a text is, NaN and infinities included, or None."""
    if "_" in text:
        return None
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return None


def _percentile(ordered: Sequence[Any], percent: float) -> Any:
    """Interpolate linearly between the two nearest values, as numpy does by default."""
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    if low + 1 >= len(ordered) or ordered[low] == ordered[low + 1]:
        return ordered[min(low, len(ordered) - 1)]
    return ordered[low] + (ordered[low + 1] - ordered[low]) * (position - low)
