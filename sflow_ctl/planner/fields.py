"""Converts numbers of the file, with the field's name in the message if one is wrong. Called by all phases."""

from collections.abc import Callable
from typing import Any, TypeVar

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import NumberError

T = TypeVar("T")
LABEL_NAME = lazy_pattern(r"[A-Za-z0-9_-]+$")
LABEL_RULE = "names of labels have letters, digits, _ and - only"


def number(
    subject: str, path: tuple[str | int, ...], convert: Callable[..., T], value: Any, *limits: int
) -> T:
    """Convert the value of a field; `path` is its place below `subject`. Raises: UnplannableError."""
    try:
        return convert(value, *limits)
    except NumberError as error:
        what = f"{subject}: {'.'.join(map(str, path))} {error}"
        raise UnplannableError("wrong-value", what, path=path) from error
