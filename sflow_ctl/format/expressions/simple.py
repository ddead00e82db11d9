"""The commonest expressions, evaluated without the template engine: paths, and one `+`, `-` or `*` of two.

`task.server[0].nodes[0].name`, `9000 + replica.index`. Compiling takes the engine 0.3 ms each and its import
50 ms, which would be most of planning. Unusual expressions, and all that fail, are left to the engine, so an
expression means the same either way, and the engine writes all messages.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from protocol.text.lazy_pattern import lazy_pattern

_STEP = r"""\.[A-Za-z][A-Za-z0-9_]*|\[(?:0|[1-9][0-9]{0,8})\]|\['[^'\\_{}][^'\\{}]*'\]"""
_PATH = rf"[A-Za-z][A-Za-z0-9_]*(?:{_STEP})*"
_ATOM = rf"{_PATH}|0|[1-9][0-9]{{0,14}}"
_SIMPLE = lazy_pattern(rf"({_ATOM})(?:\s*([-+*])\s*({_ATOM}))?", re.ASCII)
_STEPS = lazy_pattern(_STEP, re.ASCII)
_RESERVED = frozenset(
    ("true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is", "if", "else")
)
UNKNOWN: Final = object()
"""Not evaluated: ask the engine."""


class Atom(Struct, frozen=True):
    """A number (no name), or a name and the keys and indices after it."""

    name: str | None
    steps: tuple[str | int, ...]
    number: int = 0


class Simple(Struct, frozen=True):
    """One atom, or two and an operator between."""

    left: Atom
    operator: str
    right: Atom | None


@lru_cache(maxsize=65536)
def simple(source: str) -> Simple | None:
    """Return the parts of an expression of this kind, or None."""
    match = _SIMPLE.fullmatch(source)
    if match is None:
        return None
    left = _atom(match[1])
    right = _atom(match[3]) if match[3] is not None else None
    if left.name in _RESERVED or (right is not None and right.name in _RESERVED):
        return None
    return Simple(left, match[2] or "", right)


def _atom(text: str) -> Atom:
    if text[0].isdigit():
        return Atom(None, (), int(text))
    first = re.search(r"[.\[]", text)
    name = text if first is None else text[: first.start()]
    steps: list[str | int] = []
    for step in _STEPS.findall(text, len(name)):
        if step[0] == ".":
            steps.append(step[1:])
        elif step[1] == "'":
            steps.append(step[2:-2])
        else:
            steps.append(int(step[1:-1]))
    return Atom(name, tuple(steps))


def evaluate_simple(parts: Simple, names: Mapping[str, Any]) -> Any:
    """Return the value, or `UNKNOWN` if the engine must evaluate it.

    A missing key, an operator on other values than numbers.
    """
    left = _look_up(parts.left, names)
    if parts.right is None or left is UNKNOWN:
        return left
    right = _look_up(parts.right, names)
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        return UNKNOWN
    match parts.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case _:
            return left * right


def _look_up(atom: Atom, names: Mapping[str, Any]) -> Any:
    if atom.name is None:
        return atom.number
    value = names.get(atom.name, UNKNOWN)
    for step in atom.steps:
        if isinstance(value, dict):
            value = value.get(step, UNKNOWN)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return UNKNOWN
    return value
