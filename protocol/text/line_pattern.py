r"""A regular expression that is searched in lines of unknown length, at a limited cost. Pure.

Python's engine backtracks: `(.+?): (\d+) ms` on one line of 120 kB takes a minute, during which the process
does nothing else, and its node counts as lost. RE2 takes linear time, but has no lookarounds and other
classes of Unicode; so it searches the lines that both engines read in the same way. Of the others, Python's engine searches
the beginning, here if the expression can take little time only, else in a process that can be killed. The reasons are in
docs/decisions/patterns.md.
"""

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from protocol.text.lazy_pattern import lazy_pattern

SEARCHED_CHARACTERS = 2000
"""The part of a line that Python's engine searches here where there is no process; one repetition takes 10 ms for it."""
STEPS = SEARCHED_CHARACTERS**2
"""What Python's engine may need here for a line, by its length and the pattern's repetitions."""
MOST_CHARACTERS = 64 * 1024
"""The part of a line that is searched in a process."""
GIVEN_UP_AFTER = 3
"""Lines that took too long before the pattern is searched no more."""
_FEW = 8
"""More repetitions of a part than that multiply the time by the length of the line."""
_TOO_MANY = 8
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_DIFFERENT = lazy_pattern(r"\[\[:|\{,|\\[AZ]|[^\x00-\x7f]")
"""Syntax that RE2 reads differently, or that means something else in a block of lines."""
_OF_ASCII = lazy_pattern(r"\\[wWdDsSbB]|\(\?[a-zA-Z-]*i|\(\?[a-zA-Z-]*:|\[\^|\\[xuUN0-7]")
"""Syntax that RE2 understands in ASCII as Python does, and elsewhere differently, or not surely alike."""

Groups = list[str | None]
"""A match, and its groups in order; None for one that has no part in it."""
SlowEngine = Callable[[str, str, int], list[Groups] | None]
"""Returns a pattern's matches in a line, up to a limit, in time that is limited; None when that is over."""
_slow_engine: list[SlowEngine] = []


def use_slow_engine(engine: SlowEngine) -> None:
    """Have expressions that may take long searched by this function."""
    _slow_engine[:] = [engine]


class LinePattern:
    """A pattern of the file, compiled. Raises: re.error."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._regex = re.compile(pattern)
        self._linear: Any = None
        self._block: Any = None
        self._is_of_ascii = _OF_ASCII.search(pattern) is not None
        self._most_here: int | None = None
        self._searched = SEARCHED_CHARACTERS
        self._given_up = 0
        if not _DIFFERENT.search(pattern) and self._regex.search("") is None:
            self._linear = _linear(pattern)
            self._block = _linear(f"(?m){pattern}") if self._linear is not None else None

    @property
    def problem(self) -> str:
        """Return why lines were not searched, as a sentence; empty if all were."""
        if not self._given_up:
            return ""
        text = f'the pattern "{self._pattern}" takes too long on a line: write it without nested or neighbouring repetitions'
        return text if self._given_up < GIVEN_UP_AFTER else f"{text}; it is searched no more"

    def may_be_in(self, block: bytes) -> bool:
        """Return False if it is certain that no line of the block matches; one quick search for all of them."""
        if self._block is None or not block.isascii():
            return True
        return self._block.search(block) is not None

    def count(self, line: str, limit: int) -> int:
        """Return how often the pattern matches in the line, at most `limit`."""
        if self._is_linear_in(line):
            return _counted(self._linear.finditer(line.encode(errors="replace")), limit)
        if self._is_quick_in(line):
            return _counted(self._regex.finditer(line[: self._searched]), limit)
        return len(self._matches_elsewhere(line, limit))

    def matches(self, line: str, limit: int) -> list[Groups]:
        """Return the pattern's matches in the line with their groups, at most `limit`."""
        if self._is_linear_in(line):
            found = islice(self._linear.finditer(line.encode(errors="replace")), limit)
            return [[_text(one[0]), *map(_text, one.groups())] for one in found]
        if self._is_quick_in(line):
            found = islice(self._regex.finditer(line[: self._searched]), limit)
            return [[one[0], *one.groups()] for one in found]
        return self._matches_elsewhere(line, limit)

    def group_number(self, group: int | str) -> int | None:
        """Return the number of a group; None for a name that the pattern does not have."""
        return self._regex.groupindex.get(group) if isinstance(group, str) else group

    @property
    def groups(self) -> int:
        """Return how many groups the pattern has."""
        return self._regex.groups

    def named(self, groups: Groups) -> dict[str, str | None]:
        """Return the named groups of a match."""
        return {name: groups[number] for name, number in self._regex.groupindex.items()}

    @property
    def quick_characters(self) -> int:
        """Return the length of a line that Python's engine searches in no time, whatever is in it."""
        if self._most_here is None:
            self._most_here = _characters_here(self._pattern)
        return self._most_here

    def is_in(self, line: str) -> bool:
        """Return whether the pattern matches in the line."""
        return self.count(line, 1) > 0

    def _is_linear_in(self, line: str) -> bool:
        return self._linear is not None and (line.isascii() or not self._is_of_ascii)

    def _is_quick_in(self, line: str) -> bool:
        """Return whether Python's engine may search the line here, at least its beginning."""
        self._searched = max(SEARCHED_CHARACTERS, self.quick_characters)
        return len(line) <= self.quick_characters or not _slow_engine

    def _matches_elsewhere(self, line: str, limit: int) -> list[Groups]:
        if self._given_up >= GIVEN_UP_AFTER:
            return []
        found = _slow_engine[0](self._pattern, line[:MOST_CHARACTERS], limit)
        self._given_up += found is None
        return found or []


def _text(group: bytes | None) -> str | None:
    return None if group is None else group.decode(errors="replace")


def _counted(matches: Iterable[object], limit: int) -> int:
    found = 0
    for _ in matches:
        found += 1
        if found >= limit:
            break
    return found


def _linear(pattern: str) -> Any:
    """Return the pattern for RE2, or None if RE2 is missing or lacks a feature that the pattern uses."""
    try:
        import re2
    except ImportError:
        return None
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error:
        return None


def _characters_here(pattern: str) -> int:
    """Return the length of a line for which Python's engine needs at most `STEPS`; 0 if that does not depend on the length."""
    from re import _parser  # type: ignore[attr-defined]  # as the engine itself reads it

    found: int = _repetitions(_parser.parse(pattern))
    return 0 if found >= _TOO_MANY else min(MOST_CHARACTERS, int(STEPS ** (1 / (found + 1))))


def _repetitions(item: Any) -> int:
    """Return how many repetitions of many a part of a parsed pattern has: too many, if there are choices within one."""
    if not isinstance(item, tuple | list) and not hasattr(item, "data"):
        return 0
    parts = list(item)
    if len(parts) == 2 and str(parts[0]) in _REPEATS:
        _, most, inner = parts[1]
        if most > _FEW:
            return _TOO_MANY if _has_choices(inner) else 1
        return min(_TOO_MANY, _repetitions(inner) * max(1, int(most)))
    return min(_TOO_MANY, sum(map(_repetitions, parts)))


def _has_choices(item: Any) -> bool:
    """Return whether a part of a parsed pattern may match in several ways: it has alternatives or repetitions."""
    if not isinstance(item, tuple | list) and not hasattr(item, "data"):
        return str(item) in _REPEATS or str(item) == "BRANCH"
    return any(_has_choices(one) for one in item)
