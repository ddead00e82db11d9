"""Numbers in the paths of checkpoints: digits right after a known word, in the file's name or in that of a folder. Pure."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.line_pattern import LinePattern

NumberKind = Literal["step", "epoch"]


class Number(NamedTuple):
    """The number of a checkpoint, and where it was found."""

    kind: NumberKind
    value: int
    depth: int
    """The position of the part of the path that has it, from 0; the last one is the file's own name."""


NumberIn = Callable[[str], Number | None]
"""Returns the number in a relative path."""
_DIGITS = r"[_=-]?0*(\d+)(?![0-9A-Za-z])"
_DATE = r"(?![_=-]?(?:19|20)\d{2}[-_.](?:0[1-9]|1[0-2])[-_.](?:0[1-9]|[12]\d|3[01])(?!\d))"
_COMPACT_DATE = r"(?![_=-]?(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d))"
_BEFORE = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
_WORDS = tuple(
    (kind, lazy_pattern(f"{_BEFORE}{word}{_DATE}{more}{_DIGITS}"))
    for kind, word, more in (
        ("step", r"(?i:global[_-]?step)s?", ""),
        ("step", r"(?i:(?:time)?step)s?", ""),
        ("step", r"(?i:iter(?:ation)?)s?", ""),
        ("step", r"(?i:checkpoint)", _COMPACT_DATE),
        ("step", r"(?i:ckpt)", _COMPACT_DATE),
        ("epoch", r"(?i:epoch)s?", ""),
    )
)
"""In the order in which they count. Of "checkpoint" and "ckpt" eight digits that are a date are one; no word is followed by a
date with separators."""


def number_in(path: str) -> Number | None:
    """Return the number after a known word in the path: of several the one of the more telling word, nearest to the end."""
    parts = path.split("/")
    for kind, pattern in _WORDS:
        for depth in range(len(parts) - 1, -1, -1):
            found = pattern.search(parts[depth])
            if found is not None:
                return Number(kind, int(found[1]), depth)  # type: ignore[arg-type]  # one of the two words
    return None


def numbers_of(step_regex: str | None) -> NumberIn:
    """Return the function that finds numbers: by known words, or by a user's expression. Raises: re.error."""
    if step_regex is None:
        return number_in
    pattern = LinePattern(step_regex)
    group = pattern.group_number("step") or 1

    def number(path: str) -> Number | None:
        found = pattern.matches(path, 1)
        digits = found[0][group] if found else None
        if digits is None or not (digits.isascii() and digits.isdigit()):
            return None
        return Number("step", int(digits), _depth(path, found[0][0] or ""))

    return number


def _depth(path: str, match: str) -> int:
    """Return the position of the part of a path in which a match ends."""
    end = path.find(match) + len(match.rstrip("/"))
    return path.count("/", 0, end)
