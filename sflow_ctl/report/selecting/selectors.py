"""Which tasks of a run a word of the command line means: names, keys, indices, ranges and patterns. Pure.

Called wherever tasks are chosen: `logs`, `outputs`, `rerun`, `replay`, `restart`, `retry`, `--reuse` and others.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from protocol.text.lazy_pattern import lazy_pattern

_INDEXED = lazy_pattern(r"(?P<base>.+)\[(?P<parts>[-\d:,\s]+)\]", re.ASCII)
_INNER = lazy_pattern(r"\[(\d+)\](?=\.)", re.ASCII)
_POSITIONS = lazy_pattern(r"-?\d*(?::-?\d*){0,2}(?:,-?\d*(?::-?\d*){0,2})*", re.ASCII)
_PATTERN = frozenset("*?[")


class Selectable(NamedTuple):
    """What a word may mean a task by."""

    name: str
    """Its address."""
    base: str
    number: int
    """Among the copies of `base`."""
    key: str


def selected(word: str, tasks: Sequence[Selectable]) -> list[str]:
    """Return the names of the tasks that a word means, in their order; none for a word that means no task.

    In this order: a name or the name of a replicated task; a key; `train[3]`, `train[-1]`, `train[0:5]`, `train[0,4:8]`, with
    Python's ranges; numbers and ranges of all tasks, as `keys` counts them, `3` or `0:9`; a pattern of names, else of keys.
    A part of a block is `learn[3].train`.
    """
    word = _INNER.sub(r"_\1", word)
    found = [one.name for one in tasks if word in (one.name, one.base)] or [
        one.name for one in tasks if one.key and word == one.key
    ]
    if found:
        return found
    match = _INDEXED.fullmatch(word)
    if match is not None:
        copies = [one for one in tasks if one.base == match["base"]]
        if copies:
            return _numbered(match["parts"], [one.name for one in sorted(copies, key=lambda one: one.number)])
    if _POSITIONS.fullmatch(word) and any(mark.isdigit() for mark in word):
        return _numbered(word, [one.name for one in tasks])
    if _PATTERN.isdisjoint(word):
        return []
    by_name = set(fnmatch.filter([one.name for one in tasks], word))
    return [one.name for one in tasks if one.name in by_name] or [
        one.name for one in tasks if one.key and fnmatch.fnmatchcase(one.key, word)
    ]


def _numbered(parts: str, names: Sequence[str]) -> list[str]:
    """Return the names that numbers and ranges mean, each once, in their order; a number beyond the end means none."""
    chosen: set[int] = set()
    for part in parts.replace(" ", "").split(","):
        numbers = part.split(":")
        if part in ("", "-") or any(one == "-" for one in numbers) or len(numbers) > 3:
            continue
        bounds = [int(one) if one else None for one in numbers]
        if len(bounds) == 1:
            index = bounds[0]
            assert index is not None
            chosen.update((range(len(names))[index],) if -len(names) <= index < len(names) else ())
        elif 0 not in bounds[2:]:
            chosen.update(range(len(names))[slice(*bounds)])
    return [names[index] for index in sorted(chosen)]


def some_of(words: Iterable[str], tasks: Sequence[Selectable]) -> list[str]:
    """Return what several words mean, each task once, in the order of the words."""
    return [*dict.fromkeys(name for word in words for name in selected(word, tasks))]
