"""Numbers that keep the text they were written as, so that `25.10` and `83e2010` reach tasks unchanged.

A variable's value may be a version, a commit or an image tag that merely looks like a number. It calculates as the number, and
wherever it becomes text (environment, scripts, replica names, `compose`) it is the text again. Only values of variables are kept
this way; every other field takes plain numbers.
"""

import math
import re
from typing import Any

import msgspec

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.casting import VARIABLE_TYPES
from sflow_ctl.format.yaml_values import MAX_DIGITS, members_of, unquoted

_INTEGER = lazy_pattern(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_DECIMAL = lazy_pattern(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_JSON_NUMBER = lazy_pattern(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_LEADING_ZERO = lazy_pattern(r"[-+]?0[0-9]")


class WrittenInt(int):
    """An integer that becomes its source text wherever it is printed."""

    def __new__(cls, value: int, text: str) -> "WrittenInt":
        """Make one of a value and its text."""
        made = super().__new__(cls, value)
        made.text = text
        return made

    text: str

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Return what a copy is made of."""
        return int(self), self.text

    def __str__(self) -> str:
        """Return the source text."""
        return self.text

    __repr__ = __str__


class WrittenFloat(float):
    """A float that becomes its source text wherever it is printed."""

    def __new__(cls, value: float, text: str) -> "WrittenFloat":
        """Make one of a value and its text."""
        made = super().__new__(cls, value)
        made.text = text
        return made

    text: str

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Return what a copy is made of."""
        return float(self), self.text

    def __str__(self) -> str:
        """Return the source text."""
        return self.text

    __repr__ = __str__


# Messages about values name their types.
WrittenInt.__module__ = WrittenFloat.__module__ = "builtins"
WrittenInt.__name__ = WrittenInt.__qualname__ = "int"
WrittenFloat.__name__ = WrittenFloat.__qualname__ = "float"


def written(value: Any, text: str | None) -> Any:
    """Return a number that would not print as its source text with that text; anything else as it is."""
    if text is None or isinstance(value, bool) or not isinstance(value, int | float) or str(value) == text:
        return value
    if isinstance(value, float):
        return WrittenFloat(value, text) if math.isfinite(value) else text
    return WrittenInt(value, text)


def plain(value: Any) -> Any:
    """Return a value without source texts, for data that leaves this program as JSON."""
    if isinstance(value, WrittenInt):
        return int(value)
    if isinstance(value, WrittenFloat):
        return float(value)
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    return [plain(member) for member in value] if isinstance(value, list) else value


def as_written(value: Any) -> Any:
    """Return a value with texts in place of numbers that would print differently."""
    if isinstance(value, WrittenInt | WrittenFloat):
        return value.text
    if isinstance(value, dict):
        return {key: as_written(member) for key, member in value.items()}
    return [as_written(member) for member in value] if isinstance(value, list) else value


def json_number(value: Any) -> Any:
    """Return what stands for a kept number in JSON, which `msgspec` asks for: its source text where that is JSON too.

    Raises: TypeError for other values.
    """
    if not isinstance(value, WrittenInt | WrittenFloat):
        raise TypeError(f"no JSON for a value of type {type(value).__name__}")
    return msgspec.Raw(value.text.encode()) if _JSON_NUMBER.fullmatch(value.text) else plain(value)


def number_or_text(text: str) -> Any:
    """Return the number that a text from a command line or a table is, or the text itself.

    Leading zeros, underscores, `nan`, and `inf` in any spelling are text: no number prints back as such.
    """
    if _INTEGER.fullmatch(text):
        return written(int(text), text) if len(text) <= MAX_DIGITS else text
    if _DECIMAL.fullmatch(text) and not _LEADING_ZERO.match(text):
        return written(float(text), text)
    return text


def json_value(text: str) -> Any:
    """Return a JSON text's value, numbers with their source. Raises: ValueError."""
    import json  # few texts are JSON

    return json.loads(text, parse_int=number_or_text, parse_float=number_or_text, parse_constant=str)


def variable_value(value: Any, node: Any, type_name: Any) -> Any:
    """Return a variable's value as its declared type should see it; `node` is where the file has it, None elsewhere.

    With `type: string` a scalar is exactly its text; a null stays null.
    """
    if isinstance(value, list | dict):
        return _within(value, node)
    text = unquoted(node)
    if text is None or value is None or isinstance(value, str):
        return value
    is_text = isinstance(type_name, str) and VARIABLE_TYPES.get(type_name) == "string"
    return text if is_text else written(value, text)


def _within(value: Any, node: Any) -> Any:
    """Return a list or mapping whose numbers keep their texts. What comes from a merge key has no node here."""
    if isinstance(value, list | dict):
        nodes = members_of(node)
        if isinstance(value, list):
            return [_within(member, nodes.get(index)) for index, member in enumerate(value)]
        return {key: _within(member, nodes.get(str(key))) for key, member in value.items()}
    return written(value, unquoted(node))
