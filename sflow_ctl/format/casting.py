"""Values as the type that a variable declares."""

from typing import Any

from sflow_ctl.format.rules import VARIABLE_TYPES

_TRUE, _FALSE = frozenset(("true", "1", "yes", "y", "on")), frozenset(("false", "0", "no", "n", "off"))


def cast(value: Any, type_name: str | None) -> Any:
    """A value as its declared type; without one it stays what the file says. Raises: ValueError."""
    if type_name is None or value is None:
        return value
    match VARIABLE_TYPES.get(type_name, type_name):
        case "string":
            return value if isinstance(value, str) else str(value)
        case "integer":
            if isinstance(value, int):
                return int(value)
            try:
                if isinstance(value, str):
                    return int(value.strip())
            except ValueError:
                pass
            raise ValueError(f"expected integer, is {value!r}")
        case "float":
            try:
                return float(value)
            except (TypeError, ValueError):
                raise ValueError(f"expected float, is {value!r}") from None
        case "boolean":
            return _boolean(value)
        case _:
            return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return bool(value)
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"expected boolean, is {value!r}")
