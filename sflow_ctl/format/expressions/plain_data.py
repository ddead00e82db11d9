"""Results of expressions as plain data, within the budget of one evaluation. Pure. Used by `engine` and `call_checks`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import StrictUndefined

from sflow_ctl.format.expressions.budget import (
    MAX_DIGITS,
    MAX_SHOWN_BITS,
    BudgetError,
    budget_of_this,
    check_length,
    spend,
    text_size,
)

_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))


class ResultError(Exception):
    """A result that is not plain data."""


def plain_result(value: Any) -> Any:
    """Return a result as plain data: generators and ranges as lists.

    Its members, and the characters that all of it has as text, are limited: a list may hold one long member many times.
    Raises: UndefinedError, ResultError, BudgetError.
    """
    result = _plain(value)
    if isinstance(result, list | tuple | dict):
        check_length(text_size(result))
    return result


def _plain(value: Any, depth: int = 0) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_SHOWN_BITS:
        raise BudgetError(f"its number would have more than {MAX_DIGITS} digits")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, StrictUndefined):
        value._fail_with_undefined_error()
    if depth > 100:
        raise ResultError("its lists are nested too deeply")
    if isinstance(value, dict | list | tuple):
        spend(1 + len(value))
    if isinstance(value, dict):
        return {_plain(key, depth + 1): _plain(member, depth + 1) for key, member in value.items()}
    if isinstance(value, list):
        return [_plain(member, depth + 1) for member in value]
    if isinstance(value, tuple):
        members = (_plain(member, depth + 1) for member in value)
        return type(value)(*members) if hasattr(value, "_fields") else tuple(members)
    if isinstance(value, range | Iterator | set | frozenset) or type(value) in _VIEWS:
        return [_plain(member, depth + 1) for member in counted(value)]
    if isinstance(value, Mapping | Sequence) and not isinstance(value, bytes):
        return value
    raise ResultError("it is a function or an object: call it, or use one of its fields")


def counted(values: Iterable[Any], text: int = 0) -> Iterator[Any]:
    """Yield values, each of which costs a step, and the `text` characters that its loop writes."""
    for value in values:
        spend(1)
        if text and (budget := budget_of_this.get()) is not None:
            budget.write(text)
        yield value
