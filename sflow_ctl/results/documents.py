"""Reads values from JSON documents and CSV files as programs write them. Pure: lines in, values out.

JSON may be one document, several after each other, or one per line; CSV may begin with a byte order mark, be separated by commas,
semicolons or tabs, and have blanks after separators and comments before its header.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from protocol.json_path import JsonPathError, members
from protocol.json_path import json_path as steps_of
from protocol.text.json_documents import documents_of
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.results.patterns import LABEL, PatternError

_INTEGER = lazy_pattern(r"[-+]?(?:0|[1-9]\d*)", re.ASCII)
_DECIMAL = lazy_pattern(
    r"[-+]?(?:(?:0|[1-9]\d*)?\.\d*|(?:0|[1-9]\d*)(?=[eE][-+]))(?:[eE][-+]?\d+)?", re.ASCII
)
"""A measured number: with a point, or an exponent with a sign. `83e2010` and `0123` are names that look like numbers."""
MAX_DOCUMENT = 64 << 20
"""Characters of a file of JSON; its data take several times as much memory."""
_SEPARATORS = ",;\t|"


class IncompleteError(ValueError):
    """A file that is not what it should be from some place on."""

    def __init__(self, what: str, values: list[Any]) -> None:
        super().__init__(what)
        self.values = values
        """What was read before that."""


def json_values(path: str, lines: Iterable[str], is_log: bool) -> list[Any]:
    """Return the values at `path` of every JSON document in a file, or in the lines of a log.

    Raises: PatternError for a path that is not one, IncompleteError for a file that is not JSON to its end.
    """
    steps = json_path(path)
    values: list[Any] = []
    try:
        documents = _log_documents(lines) if is_log else documents_of(_whole(lines), _integer)
        for document in documents:
            values += select(document, steps)
    except json.JSONDecodeError as error:
        rest = "; what is before that was read" if values else ""
        raise IncompleteError(f"not JSON: {error}{rest}", values) from error
    except ValueError as error:
        raise IncompleteError(str(error), values) from error
    return values


def json_path(path: str) -> tuple[str | int, ...]:
    """Return the steps of `a.b[0].c`, `$.a["b"]`, `runs[*].rate`; "*" is every member. Raises: PatternError."""
    try:
        return steps_of(path)
    except JsonPathError as error:
        raise PatternError(str(error)) from error


def select(document: Any, steps: Sequence[str | int]) -> list[Any]:
    """Return the values at a path; none where it leads nowhere. A list at its end is several values."""
    return [
        one for value in members(document, steps) for one in (value if isinstance(value, list) else [value])
    ]


def column(name: str, lines: Iterable[str]) -> list[Any]:
    """Return the values of a column of a CSV file with a header; numbers become numbers. Raises: KeyError, ValueError."""
    rest = iter(lines)
    header = _header(name.strip(), rest)
    reader = csv.reader(chain([header], rest), delimiter=_separator(header), skipinitialspace=True)
    try:
        names = [one.strip() for one in next(reader, [])]
        if name.strip() not in names:
            raise KeyError(_no_column(name.strip(), names))
        index = names.index(name.strip())
        cells = [row[index].strip() for row in reader if index < len(row)]
    except csv.Error as error:
        raise ValueError(f"not a CSV file: {error}") from error
    return [cell_value(cell) for cell in cells if cell]


def _header(name: str, lines: Iterator[str]) -> str:
    """Return the line with the names: the first that is not a comment, or a comment that has this name."""
    comment = ""
    for line in lines:
        text = line.lstrip("\ufeff")
        if not text.strip():
            continue
        if not text.startswith("#"):
            return text
        names = text.lstrip("#")
        if name in [one.strip(' "\r\n') for one in names.split(_separator(names))]:
            return names
        comment = comment or text
    return comment


def _no_column(name: str, names: Sequence[str]) -> str:
    if any("\0" in one or "\ufffd" in one for one in names):
        return f'no column "{name}": the file is not text in UTF-8 or UTF-16'
    guess = next((one for one in names if one.lower() == name.lower()), None)
    hint = "" if guess is None else f' (did you mean "{guess}"?)'
    return f'no column "{name}", there are {", ".join(names) or "none"}{hint}'


def cell_value(text: str) -> Any:
    """Return the number that a cell of a table is, or its text."""
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _DECIMAL.fullmatch(text) and any(character.isdigit() for character in text):
        value = float(text)
        return text if value in (float("inf"), float("-inf")) else value
    return text


def _integer(text: str) -> int | str:
    """Return an integer of at most 64 bits, which every reader of our files understands, or its text."""
    value = int(text) if len(text) < 30 else 2**64
    return value if -(2**63) <= value < 2**64 else text


def _separator(header: str) -> str:
    """Return the separator that a header has most of, outside quotes."""
    outside = re.sub(r'"[^"]*"', "", header)
    return max(_SEPARATORS, key=outside.count)


def _whole(lines: Iterable[str]) -> str:
    """Return the text of a file. Raises: ValueError for one that is too large to be held in memory several times."""
    parts, size = [], 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size > MAX_DOCUMENT:
            raise ValueError(f"larger than {MAX_DOCUMENT >> 20} Mi characters")
    return "".join(parts)


def _log_documents(lines: Iterable[str]) -> Iterator[Any]:
    """Yield every line of a log that is a JSON object or list."""
    for line in lines:
        text = LABEL.sub("", line, count=1).strip("\ufeff \t\r\n")
        if text[:1] not in ("{", "["):
            continue
        try:
            yield json.loads(text, parse_int=_integer)
        except (ValueError, RecursionError):
            continue  # a line of a log that only looks like JSON
