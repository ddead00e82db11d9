"""The condition under which a task runs: its value, and sentences about it. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from protocol.typed_values import as_json, described
from sflow_ctl.plan.errors import ExpressionError

_SHOWN = 80
_WORDS = {"true": True, "false": False}


def condition_of(value: Any) -> bool:
    """Return the truth of a condition: a boolean, or the word true or false. Raises: ExpressionError for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    raise ExpressionError(f"its condition `when` must be true or false, is {described(value)}")


def shown_operand(value: Any) -> str:
    """Return a value as a sentence about a condition has it."""
    text = value if isinstance(value, bool | int | float) else None
    shown = str(text).lower() if isinstance(text, bool) else str(text) if text is not None else _json(value)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(as_json(value)).decode()
    except TypeError:
        return str(value)


def why_skipped(text: str, operands: Mapping[str, str]) -> str:
    """Return why a task does not run, as a sentence without its subject."""
    values = ", ".join(f"{name} is {value}" for name, value in operands.items())
    return f"its condition {text} is false" + (f": {values}" if values else "")
