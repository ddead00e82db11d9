"""The types that inputs and outputs of tasks may have, and values in them. Pure; planner, agent and controller share it."""

import json
import math
from typing import Any

from protocol.messages.handover import ValueType

_SHOWN = 60
_WORDS = {"true": True, "false": False}


class WrongTypeError(ValueError):
    """A value is not of the wanted type; the text says "wanted int, got str 'x'"."""


def typed(value: Any, wanted: ValueType | None) -> Any:
    """Return a value of JSON in the wanted type: whole floats are integers, and integers floats; None takes any value.

    Raises: WrongTypeError.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match wanted:
        case None:
            return value
        case "int" if is_number and float(value).is_integer():
            return int(value)
        case "float" if is_number:
            return float(value)
        case "bool" if isinstance(value, bool):
            return value
        case "str" if isinstance(value, str):
            return value
        case "list" if isinstance(value, list | tuple):
            return list(value)
        case "dict" if isinstance(value, dict):
            return value
        case "path" if isinstance(value, str) and value:
            return value
        case "paths" if isinstance(value, list | tuple) and all(
            isinstance(one, str) and one for one in value
        ):
            return list(value)
    raise WrongTypeError(f"wanted {wanted}, got {described(value)}")


def typed_text(text: str, wanted: ValueType | None) -> Any:
    """Return the value that a text stands for: of a file, of the command line, or of an expression. Without a type it is itself.

    Raises: WrongTypeError.
    """
    if wanted in (None, "str", "path"):
        return typed(text, wanted)
    stripped = text.strip()
    try:
        if wanted == "int":
            return typed(_number(stripped), "int")
        if wanted == "float":
            return float(stripped.replace("_", "x"))
        if wanted == "bool":
            return _WORDS[stripped.lower()]
        return typed(json.loads(stripped), wanted)
    except (ValueError, KeyError, OverflowError, RecursionError):
        raise WrongTypeError(f"wanted {wanted}, got the text {_cut(repr(text))}") from None


def type_of(value: Any) -> str:
    """Return the name of a value's type, as files have it."""
    for name, kind in (("bool", bool), ("int", int), ("float", float), ("str", str)):
        if isinstance(value, kind):
            return name
    if value is None:
        return "null"
    return "list" if isinstance(value, list | tuple) else "dict" if isinstance(value, dict) else "value"


def described(value: Any) -> str:
    """Return a value for an error: its type and its beginning."""
    if value is None:
        return "null"
    return f"{type_of(value)} {_cut(repr(value))}"


def as_json(value: Any) -> Any:
    """Return a value without what JSON does not have: NaN and infinities become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): as_json(one) for key, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, list | tuple) else value


def _number(text: str) -> int | float:
    try:
        return int(text) if "_" not in text else int("x")
    except ValueError:
        return float(text)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
