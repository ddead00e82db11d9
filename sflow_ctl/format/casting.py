"""Converts values to the type that a variable declares. The planner calls it after expressions are evaluated."""

from typing import Any

VARIABLE_TYPES = {
    "string": "string",
    "str": "string",
    "integer": "integer",
    "int": "integer",
    "float": "float",
    "boolean": "boolean",
    "bool": "boolean",
    "list": "list",
    "dict": "dict",
}
"""Accepted spellings to the format's own."""
_TRUE, _FALSE = frozenset(("true", "1", "yes", "y", "on")), frozenset(("false", "0", "no", "n", "off"))


def cast(value: Any, type_name: str | None) -> Any:
    """Return a value as its declared type; without one it stays as it is in the file. Raises: ValueError."""
    if type_name is None or value is None:
        return value
    match VARIABLE_TYPES.get(type_name, type_name):
        case "string":  # of a number as written in the file, this is its source text
            return value if isinstance(value, str) else str(value)
        case "integer":
            return _integer(value)
        case "float":
            try:
                return float(value)
            except (TypeError, ValueError):
                raise ValueError(f"expected float, is {value!r}") from None
        case "boolean":
            return _boolean(value)
        case _:
            return value


def _integer(value: Any) -> int:
    if isinstance(value, int):
        return int(value)
    try:
        if isinstance(value, str):
            return int(value.strip())
    except ValueError:
        pass
    raise ValueError(f"expected integer, is {value!r}")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return bool(value)
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"expected boolean, is {value!r}")
