"""The language of `--query`: `state=failed,task=train*`. A comma means and, a repeated option means or.

Knows nothing of tasks or runs: `task_query.py` and `run_query.py` say which words these have.
"""

import fnmatch
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from protocol.errors import UsageError
from protocol.text.listing import listed

SHOWN = 30
_MARKS = "*?["


class Term(NamedTuple):
    """One word about a thing."""

    key: str
    pattern: str
    """The value, in which `*`, `?` and `[...]` are as in file names."""

    def fits(self, values: Sequence[str]) -> bool:
        """Return whether one of the values is meant."""
        return any(value == self.pattern or fnmatch.fnmatchcase(value, self.pattern) for value in values)

    def __str__(self) -> str:
        return f"{self.key}={self.pattern}"


class Query(NamedTuple):
    """What is wanted: all conditions of one of the alternatives."""

    alternatives: tuple[tuple[Term, ...], ...]

    def fits(self, values_of: Callable[[str], Sequence[str]]) -> bool:
        """Return whether a thing is meant, of which `values_of` returns the values that it has for a key."""
        return any(
            all(one.fits(values_of(one.key)) for one in conditions) for conditions in self.alternatives
        )

    def conditions(self) -> list[Term]:
        """Return all conditions."""
        return [one for conditions in self.alternatives for one in conditions]

    def __str__(self) -> str:
        return " or ".join(",".join(map(str, conditions)) for conditions in self.alternatives)


def parsed_query(texts: Sequence[str], keys: Mapping[str, str]) -> Query:
    """Return the query of the given options; `keys` are the keys that it may have, each with what it is about.

    Raises: UsageError for an unknown key, or a part that is not `key=value`.
    """
    return Query(tuple(tuple(_condition(part, text, keys) for part in text.split(",")) for text in texts))


def _condition(part: str, text: str, keys: Mapping[str, str]) -> Term:
    key, is_there, value = (word.strip() for word in part.partition("="))
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in keys.items())
    if not is_there or not value:
        raise UsageError.of(
            "query", f'"{part}" is not a condition', f"--query {text}", f"write key=value, as in {meanings}"
        )
    if key not in keys and not (key.startswith("label.") and "label" in keys):
        raise UsageError.of("query", f'there is no key "{key}"', f"--query {text}", meanings)
    return Term(key, value)


def refuse_unknown(query: Query, known: Callable[[str], Collection[str]]) -> None:
    """Check that each condition can be met by something. `known` returns all values that there are for a key.

    Raises: UsageError.
    """
    for one in query.conditions():
        values = known(one.key)
        if one.fits([*values]):
            continue
        kind = "no value fits" if any(mark in one.pattern for mark in _MARKS) else "there is no value"
        hint = f"values are: {listed(sorted(values), SHOWN)}" if values else f"nothing here has a {one.key}"
        raise UsageError.of("query", f'{kind} "{one.pattern}" of {one.key}', f"--query {query}", hint)
