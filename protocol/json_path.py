"""Paths into JSON documents: `a.b[0].c`, `$.a["b"]`, `runs[*].rate`. Pure; values of tasks are found by them on both sides."""

from collections.abc import Sequence
from typing import Any

from protocol.text.lazy_pattern import lazy_pattern

_STEP = lazy_pattern(r"\.?([^.\[\]]+)|\[(\d+|\*)\]|\[\"([^\"]*)\"\]|\[\'([^\']*)\'\]")


class JsonPathError(ValueError):
    """A text is not a path into a JSON document."""


def json_path(path: str) -> tuple[str | int, ...]:
    """Return the steps of a path; "*" is every member. Raises: JsonPathError."""
    text = path.removeprefix("$")
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise JsonPathError(f'"{path}" is not a path into a JSON document, like a.b[0].c')
        plain, index, quoted, single = match.groups()
        if index is not None:
            steps.append("*" if index == "*" else int(index))
        else:
            steps.append(next(name for name in (plain, quoted, single) if name is not None))
        position = match.end()
    return tuple(steps)


def members(document: Any, steps: Sequence[str | int]) -> list[Any]:
    """Return the values at a path; none where it leads nowhere."""
    found = [document]
    for step in steps:
        following: list[Any] = []
        for value in found:
            if step == "*" and isinstance(value, list | dict):
                following += value.values() if isinstance(value, dict) else value
            elif isinstance(value, dict) and str(step) in value:
                following.append(value[str(step)])
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                following.append(value[step])
        found = following
    return found
