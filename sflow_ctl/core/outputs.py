"""Values out of a log: the format's `outputs` patterns, with the `parse` library (imported by who has
outputs).

The first pattern that matches a line wins. A pattern must match the whole line; one that does not is
looked for within it, so that launcher labels and indentation do no harm.
"""

import re
from collections.abc import Iterable
from typing import Any

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_LABEL = re.compile(r"\d+: ")


class PatternError(ValueError):
    """A pattern that the `parse` library does not accept."""


def parse_outputs(patterns: tuple[str, ...], lines: Iterable[str]) -> dict[str, Any]:
    """Name to value, or to the list of values in order when a name was found several times. Raises:
    PatternError.
    """
    import parse

    def words(text: str) -> str:
        return text

    words.pattern = r"\w*"  # type: ignore[attr-defined]
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(parse.compile(pattern, {"w*": words}, case_sensitive=True))
        except (ValueError, TypeError, KeyError, re.error, NotImplementedError) as error:
            raise PatternError(f'"{pattern}" is no valid pattern: {error}') from error
    collected: dict[str, list[Any]] = {}
    for line in lines:
        for text in clean_lines(line):
            for pattern in compiled:
                result = (
                    pattern.parse(text)
                    or pattern.parse(_LABEL.sub("", text, count=1))
                    or pattern.search(text)
                )
                if result is not None:
                    for name, value in result.named.items():
                        collected.setdefault(name, []).append(value)
                    break
    return {name: values[0] if len(values) == 1 else values for name, values in collected.items()}


def clean_lines(line: str) -> list[str]:
    """A line of a log as a person reads it: returns end lines too, no escape sequences, no trailing
    blanks.
    """
    text = _ANSI.sub("", line) if "\x1b" in line else line
    parts = text.split("\r") if "\r" in text else [text]
    return [part.rstrip() for part in parts if part.strip()]
