"""`--row`: selects rows of a sheet."""

import re
from collections.abc import Sequence

from protocol.errors import UsageError
from protocol.text.lazy_pattern import lazy_pattern

_NUMBER = lazy_pattern(r"-?\d+", re.ASCII)
_SLICE = lazy_pattern(r"(-?\d*):(-?\d*)(?::(\d+))?", re.ASCII)


def selected_rows(selections: Sequence[str], count: int) -> list[int]:
    """Return row numbers, ascending, each once, of `count` rows; all of them without a selection.

    A selection is `3`, `1,3`, `-1` (the last), `1:4` (1, 2, 3), `-3:`, `1:6:2`, or several, joined by commas, in brackets or
    not.

    Raises: UsageError.
    """
    if not selections:
        return list(range(1, count + 1))
    chosen: set[int] = set()
    for selection in selections:
        inner = selection.strip()
        if inner.startswith("[") and inner.endswith("]"):
            inner = inner[1:-1]
        for part in inner.split(","):
            chosen.update(_part(part.strip(), selection, count))
    return sorted(chosen)


def _part(part: str, selection: str, count: int) -> Sequence[int]:
    if _NUMBER.fullmatch(part):
        number = _from_end(int(part), count)
        if not 1 <= number <= count:
            raise _problem(f"there is no row {part}", selection, f"rows are 1 to {count}")
        return (number,)
    match = _SLICE.fullmatch(part)
    if match is None:
        raise _problem(f'"{part}" is not a row', selection, "write 3, 1,3, 1:4 (rows 1, 2 and 3) or 1:6:2")
    start = _from_end(int(match[1] or 1), count)
    stop = _from_end(int(match[2] or count + 1), count)
    step = int(match[3] or 1)
    if match[1].startswith("-"):
        start = max(start, 1)  # fewer rows than that: all of them
    if start < 1 or step < 1:
        raise _problem(f'"{part}" is not a range of rows', selection, "rows and steps begin at 1")
    found = range(start, min(stop, count + 1), step)
    if not found:
        raise _problem(f'"{part}" has no rows', selection, f"rows are 1 to {count}; the end is not included")
    return found


def _from_end(number: int, count: int) -> int:
    """Return a row's number; negative ones count from the end."""
    return number if number >= 0 else max(count + 1 + number, 0)


def _problem(what: str, selection: str, hint: str) -> UsageError:
    return UsageError.of("row-selection", what, f"--row {selection}", hint)
