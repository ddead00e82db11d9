"""Writes lists of names into sentences, cut where they are long. Used by messages of both sides."""

from collections.abc import Sequence


def listed(names: Sequence[str], shown: int, separator: str = ", ") -> str:
    """Return `a, b, c and 4 more`: at most `shown` of the names."""
    rest = len(names) - shown
    return separator.join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
