r"""A regular expression that is searched in lines of unknown length, at a limited cost. Pure.

Python's engine backtracks: `(.+?): (\d+) ms` on one line of 120 kB takes a minute, during which the process
does nothing else, and its node counts as lost. RE2 takes linear time, but has no lookarounds and other
classes of Unicode; so it searches lines of ASCII where it can, and Python's engine the beginning of all
others. The reasons are in docs/decisions/patterns.md.
"""

import re
from typing import Any

from protocol.text.lazy_pattern import lazy_pattern

SEARCHED_CHARACTERS = 2000
"""The part of a line that Python's engine searches: the expression above takes 26 ms for it."""
_DIFFERENT = lazy_pattern(r"\[\[:|\{,|\\[AZ]|[^\x00-\x7f]")
"""Syntax that RE2 reads differently, or that means something else in a block of lines."""


class LinePattern:
    """A pattern of the file, compiled. Raises: re.error."""

    def __init__(self, pattern: str) -> None:
        self._regex = re.compile(pattern)
        self._linear: Any = None
        self._block: Any = None
        if not _DIFFERENT.search(pattern) and self._regex.search("") is None:
            self._linear = _linear(pattern)
            self._block = _linear(f"(?m){pattern}") if self._linear is not None else None

    def may_be_in(self, block: bytes) -> bool:
        """Return False if it is certain that no line of the block matches; one quick search for all of them."""
        if self._block is None or not block.isascii():
            return True
        return self._block.search(block) is not None

    def count(self, line: str, limit: int) -> int:
        """Return how often the pattern matches in the line, at most `limit`."""
        found = 0
        for _ in self._matches(line):
            found += 1
            if found >= limit:
                break
        return found

    def is_in(self, line: str) -> bool:
        """Return whether the pattern matches in the line."""
        return self.count(line, 1) > 0

    def _matches(self, line: str) -> Any:
        if self._linear is not None and line.isascii():
            return self._linear.finditer(line.encode())
        return self._regex.finditer(line[:SEARCHED_CHARACTERS])


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
