"""Many values to one: what the `type` and `aggregate` of a metric mean."""

import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)$")
_TYPES: dict[str, Callable[[Any], Any]] = {
    "int": lambda value: int(float(value)),
    "integer": lambda value: int(float(value)),
    "float": float,
    "number": float,
    "str": str,
    "string": str,
    "bool": lambda value: str(value).strip().lower() in ("true", "1", "yes", "y", "on"),
    "boolean": lambda value: str(value).strip().lower() in ("true", "1", "yes", "y", "on"),
}
_AGGREGATES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "list": list,
    "count": len,
    "min": min,
    "max": max,
    "sum": sum,
    "mean": statistics.fmean,
    "avg": statistics.fmean,
    "average": statistics.fmean,
    "median": statistics.median,
    "std": lambda values: statistics.stdev(values) if len(values) > 1 else 0.0,
    "stdev": lambda values: statistics.stdev(values) if len(values) > 1 else 0.0,
}


class AggregateError(ValueError):
    """Values that a type or an aggregate does not accept."""


def is_type(name: str) -> bool:
    """True for the name of a metric's type."""
    return name in _TYPES


def is_aggregate(name: str) -> bool:
    """True for the name of an aggregate: mean, max, p99, ..."""
    return name in _AGGREGATES or _PERCENTILE.match(name) is not None


def known_aggregates() -> str:
    """The names, for a message."""
    return ", ".join([*_AGGREGATES, "p50", "p99.9", "..."])


def summarised(values: Sequence[Any], kind: str | None, how: str | None) -> Any:
    """The values in their type, made one by `how`; without it a single value is itself and several are a list.

    Names that nobody knows change nothing: they were free text in files written for the reference.
    Raises: AggregateError.
    """
    try:
        typed = [_TYPES[kind](value) for value in values] if kind in _TYPES else list(values)
        if how is None or not is_aggregate(how):
            return typed[0] if len(typed) == 1 else typed
        percentile = _PERCENTILE.match(how)
        if percentile is not None:
            return _percentile(sorted(typed), float(percentile[1]))
        return _AGGREGATES[how](typed)
    except (TypeError, ValueError, statistics.StatisticsError) as error:
        raise AggregateError(f"{error}") from error


def _percentile(ordered: Sequence[Any], percent: float) -> Any:
    """Linear between the two nearest values, as numpy's default."""
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    if low + 1 >= len(ordered):
        return ordered[-1]
    return ordered[low] + (ordered[low + 1] - ordered[low]) * (position - low)
