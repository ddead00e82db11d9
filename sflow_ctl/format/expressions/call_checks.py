"""What an operator, call or filter may make, checked before it is made; the evaluation's budget pays for it. Pure.

Only `engine` uses this module.
"""

import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.expressions.budget import (
    CALL_STEPS,
    MAX_BITS,
    MAX_NUMBER,
    BudgetError,
    check_length,
    size_of,
    spend,
    spend_reading,
    text_size,
    weight,
)
from sflow_ctl.format.expressions.plain_data import plain_result

_WIDE = lazy_pattern(r"\d{7,}")
_ANY_NUMBER = frozenset(
    ("append", "insert", "index", "count", "get", "setdefault", "default", "d", "update", "pop")
)
"""Methods and filters whose numbers are values, not widths."""
_TAB_SIZE = 8
"""What `expandtabs` takes without an argument."""


def check_operator(operator: str, left: Any, right: Any) -> None:
    """Check a calculation before it is made. Raises: BudgetError."""
    spend(1 + (size_of(left) + size_of(right)) // 20)
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
        if operator in ("*", "**") and bits > MAX_BITS:
            raise BudgetError(f"the result of {operator} would be too large")
    elif operator == "%" and isinstance(left, str | bytes):
        text = left if isinstance(left, str) else left.decode("latin-1")
        members = right if isinstance(right, tuple) else [right]
        check_texts(members)
        _check_format(text, members)
    elif operator == "+":
        check_length(size_of(left) + size_of(right))
    elif operator == "*":
        for text, times in ((left, right), (right, left)):
            if isinstance(text, str | bytes | list | tuple) and isinstance(times, int):
                check_length(len(text) * times, f"the result of {operator} would be too large")


def check_call(name: str, owner: Any, arguments: Sequence[Any]) -> None:
    """Check a call of the method or filter `name` on `owner` before it is made. Raises: BudgetError."""
    size = size_of(owner)
    spend(CALL_STEPS + size // 1000 + sum(map(size_of, arguments)) // 1000)
    if isinstance(owner, list | tuple | dict):
        spend_reading(owner)
    if name in ("format", "format_map"):
        if isinstance(owner, str):
            check_texts(arguments)
            _check_format(owner, arguments)
        return
    if isinstance(owner, str | bytes | list | tuple | dict) or name == "to_bytes":
        check_numbers(name, arguments)
    if isinstance(owner, str | bytes):
        _check_text_call(name, owner, arguments)
    elif isinstance(owner, list) and name in ("extend", "insert", "append"):
        check_length(size + sum(map(size_of, arguments)))


def _check_text_call(name: str, owner: str | bytes, arguments: Sequence[Any]) -> None:
    """Check a call that may make a text longer. Raises: BudgetError."""
    size, longest = len(owner), max(map(_width_of, arguments), default=0)
    if name in ("replace", "translate"):
        check_length((size + 1) * max(1, longest))
    elif name == "expandtabs":
        check_length(size + owner.count("\t" if isinstance(owner, str) else b"\t") * max(longest, _TAB_SIZE))  # type: ignore[arg-type]
    elif name == "join":
        check_length(sum(joined_size(one, size) for one in arguments))
    elif name == "indent" and isinstance(owner, str):
        check_length(size + (owner.count("\n") + 1) * longest)
    elif name == "wordwrap" and isinstance(owner, str):
        check_length(size * (1 + max((len(one) for one in arguments if isinstance(one, str)), default=1)))


def _width_of(argument: Any) -> int:
    """Return how much a width, or a text, adds wherever it is put."""
    return abs(argument) if isinstance(argument, int) else size_of(argument)


def check_sum(value: Any, arguments: Iterable[Any]) -> None:
    """Refuse to add lists one to the other beyond measure: each addition copies all that was there."""
    if isinstance(value, Sized) and any(isinstance(argument, list | tuple) for argument in arguments):
        spend(weight(value) * size_of(value) // 100)


def check_texts(arguments: Iterable[Any]) -> None:
    """Refuse members of a format that have no value, or are too large to be written. Raises: as `plain_result`."""
    for argument in arguments:
        if not isinstance(argument, str | int | float):
            plain_result(argument)


def check_numbers(name: str, arguments: Iterable[Any]) -> None:
    """Refuse widths and counts that make long texts or lists. Raises: BudgetError."""
    if name in _ANY_NUMBER or name == "format":
        return
    for argument in arguments:
        if isinstance(argument, int) and abs(argument) > MAX_NUMBER:
            raise BudgetError(f"{argument} is too large for {name}")


def check_indented(value: Any, arguments: Iterable[Any]) -> None:
    """Refuse JSON whose members would be indented beyond measure. Raises: BudgetError."""
    width = max(map(_width_of, arguments), default=0)
    check_length(width * _lines(value))


def _lines(value: Any, depth: int = 1) -> int:
    """Return how many indentations plain data has when each member has a line."""
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(depth + _lines(member, depth + 1) for member in members)


def _check_format(text: str, arguments: Iterable[Any]) -> None:
    """Refuse widths and precisions that make long texts, whether written or passed."""
    widths = [int(width) for width in re.findall(r"\d{2,6}", text)]
    if _WIDE.search(text):
        raise BudgetError("a width in a format is too large")
    check_length(sum(widths))
    is_nested = "*" in text or re.search(r"\{[^{}]*\{", text) is not None
    fields = max(1, text.count("{") + text.count("%"))
    for argument in arguments:
        check_length(size_of(argument))
        if is_nested and isinstance(argument, int):
            if abs(argument) > MAX_NUMBER:
                raise BudgetError("a width in a format is too large")
            check_length(abs(argument) * fields)
    longest = max(map(text_size, arguments), default=1)
    check_length(len(text) * fields + longest * fields)


def joined_size(values: Any, separator: int) -> int:
    """Return how many characters the members of `values` have when they are joined; 0 for an iterator."""
    if not isinstance(values, Iterable) or isinstance(values, Iterator):
        return 0
    return sum(size_of(value) + separator + 1 for value in values)
