"""Finds values in lines of text by the patterns of `outputs`, as the `parse` library understands them. Pure.

A pattern must match the whole line, with or without the process number that launchers put before it. Failing that, it is
looked for within the line, where a match that would cut a number or a word is refused: a wrong value is worse than none.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time
from string import Formatter
from typing import Any

from msgspec import Struct, field

from protocol.text.ansi import text_without_escapes
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.line_pattern import LinePattern

MAX_LINE = 10_000
"""Characters of a line that are searched: patterns may take time that grows with the square of a line's length."""
MAX_VALUES = 1_000_000
"""Values of one name that are kept in memory, for aggregates."""
MAX_TEXT = 10_000
"""Characters of a value that is text."""
MAX_BITS = 1000
"""Bits of an integer that every reader of our files takes for one; a larger one is a text."""
LABEL = lazy_pattern(r"\d+: ")
_FLOAT = r"(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|nan|NaN|NAN|inf|Inf|INF)"
_GOES_ON = lazy_pattern(r"[\w%]|[.,+-](?=\w)")
"""After a match: more of the same number or word. A point or comma before a blank ends a sentence."""
_CAME_BEFORE = lazy_pattern(r"(?:\w|\w[.,])\Z")
"""Before a match: the beginning of the same number or word."""


class PatternError(ValueError):
    """A pattern that the `parse` library does not accept, or a path that is not one into a JSON document."""


class Found(Struct):
    """Values by name, in the order of the lines, and sentences about lines whose values were not taken."""

    values: dict[str, list[Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, value: Any) -> None:
        """Add a value, unless there are too many of its name."""
        values = self.values.setdefault(name, [])
        if isinstance(value, date | time):
            value = value.isoformat()  # as every file has it
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            value = str(value)
        if len(values) < MAX_VALUES:
            values.append(value if not isinstance(value, str) else value[:MAX_TEXT])


def match_lines(patterns: Sequence[str], lines: Iterable[str]) -> Found:
    """Return all values that the first matching pattern finds in each line. Raises: PatternError."""
    compiled = [_Pattern(pattern) for pattern in patterns]
    found = Found()
    longest = 0
    for line in lines:
        for text in clean_lines(line):
            longest = max(longest, len(text))
            for pattern in compiled:
                try:
                    values = pattern.values_in(text[:MAX_LINE])
                except ValueError as error:  # a number of thousands of digits, a date of month 13
                    pattern.note_unreadable(text, error)
                    continue
                if values is not None:
                    for name, value in values.items():
                        found.add(name, value)
                    break
    found.problems += [problem for pattern in compiled for problem in pattern.problems()]
    if longest > MAX_LINE:
        found.problems.append(
            f"a line of {longest} characters was searched for patterns in its first {MAX_LINE} only"
        )
    return found


def compile_pattern(pattern: str) -> Any:
    """Return a `parse` parser with the format's own types. Raises: PatternError."""
    import parse

    def words(text: str) -> str:
        return text

    def decimal(text: str) -> float:
        return float(text)

    words.pattern = r"\w*"  # type: ignore[attr-defined]
    decimal.pattern = _FLOAT  # type: ignore[attr-defined]
    types = {"w*": words, "f": decimal}  # the library's own `f` stops before an exponent
    try:
        return parse.compile(pattern, types, case_sensitive=True)
    except (ValueError, TypeError, KeyError, re.error, NotImplementedError) as error:
        raise PatternError(f'"{pattern}" is not a valid pattern: {error}') from error


def clean_lines(line: str) -> list[str]:
    """Return a line of a log as a person reads it: split at carriage returns, without escape sequences and trailing blanks."""
    text = text_without_escapes(line)
    parts = text.split("\r") if "\r" in text else [text]
    return [part.rstrip() for part in parts if part.strip()]


class _Pattern:
    """One pattern, and the lines from which it took no value."""

    def __init__(self, pattern: str) -> None:
        self._source = pattern
        self._parser = compile_pattern(pattern)
        try:
            pieces = list(Formatter().parse(pattern))
        except ValueError as error:
            raise PatternError(f'"{pattern}" is not a valid pattern: {error}') from error
        literals = [literal for literal, *_ in pieces if literal]
        self._word = max((word for literal in literals for word in literal.split()), key=len, default="")
        first, last = (pieces[0], pieces[-1]) if pieces else (("", None, "", None),) * 2
        self._starts_with_field = not first[0] and first[1] is not None
        self._ends_with_field = last[1] is not None
        self._ends_with_text = self._ends_with_field and not last[2]
        self._anywhere = LinePattern(f"(?s){self._parser._expression}")
        self._whole = LinePattern(f"(?s)^(?:{self._parser._expression})$")
        self._refused = 0
        self._first_refused = ""
        self._unreadable = ""

    def values_in(self, text: str) -> dict[str, Any] | None:
        """Return the values that a line has, or None."""
        if self._word not in text or not self._may_match(self._anywhere, text):
            return None
        result = self._parse(text)
        if result is None and (label := LABEL.match(text)):
            result = self._parse(text[label.end() :])
        if result is not None:
            named: dict[str, Any] = result.named
            return named
        return self._within(text)

    def _parse(self, text: str) -> Any:
        return self._parser.parse(text) if self._may_match(self._whole, text) else None

    def _may_match(self, pattern: LinePattern, text: str) -> bool:
        """Return False for a line that does not match, if the library's engine might take long to find that out."""
        return len(text) <= pattern.quick_characters or pattern.is_in(text)

    def note_unreadable(self, text: str, error: ValueError) -> None:
        """Remember a line with a value that is not one."""
        self._unreadable = self._unreadable or f'"{text[:100]}": {error}'

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each reason why lines were refused."""
        if self._anywhere.problem or self._whole.problem:
            yield f'pattern "{self._source}" takes too long on a line, which was not searched'
        if self._unreadable:
            yield f'pattern "{self._source}" found a value that cannot be read in {self._unreadable}'
        if self._refused:
            yield (
                f'pattern "{self._source}" would cut a number or word in {self._refused} '
                f'{"line" if self._refused == 1 else "lines"}, and was ignored there: "{self._first_refused}"'
            )

    def _within(self, text: str) -> dict[str, Any] | None:
        was_cut = False
        for match in self._matches(text):
            begin, end = match.match.span()
            result = match.evaluate_result()
            if self._ends_with_text:  # the text reaches to the end of the line, not only as far as it must
                result, end = self._parse(text[begin:]), len(text)
            if result is not None and not self._cuts(text, begin, end):
                named: dict[str, Any] = result.named
                return named
            was_cut = True
        if was_cut:
            self._refused += 1
            self._first_refused = self._first_refused or text[:100]
        return None

    def _matches(self, text: str) -> Iterator[Any]:
        """Yield the pattern's matches in a line, from left to right."""
        position = 0
        while position < len(text):
            match = self._parser.search(text, position, evaluate_result=False)
            if match is None:
                return
            yield match
            position = max(match.match.end(), position + 1)

    def _cuts(self, text: str, begin: int, end: int) -> bool:
        """Return True if a match begins or ends inside a number or a word."""
        if self._ends_with_field and _GOES_ON.match(text, end):
            return True
        return self._starts_with_field and _CAME_BEFORE.search(text, 0, begin) is not None
