"""Replaces the values of secrets by their names, in texts, data and streams of bytes. Pure.

One copy for the agent, which masks what tasks print on its way into their logs, and for the controller, which masks
everything that it shows or records. A value is also found in the forms that JSON, CSV, shells and URLs give it; other
changes of it (base64, a hash, half of it) are not.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from protocol.text.lazy_pattern import lazy_pattern

MIN_CHARACTERS = 4
"""Shorter values would be found everywhere: `1`, `yes`."""
MIN_LINE_CHARACTERS = 8
"""A line of a value of several lines, such as a private key, is masked by itself from this length on."""

_NOT_PLAIN = lazy_pattern(r"[^\w@%+=:,./-]")
_IN_DOUBLE_QUOTES = lazy_pattern(r'["$`\\]')
_ESCAPED = lazy_pattern(r"%[0-9A-F]{2}")
_SAFE_IN_URLS = ("", "/", "!'()*", ";,/?:@&=+$!'()*#")
"""Of Python twice, and of encodeURIComponent and encodeURI in browsers."""


def mark_of(name: str) -> str:
    """Return what stands for the value of a secret."""
    return f"***{name}***"


def parts_of(value: object) -> Iterable[str]:
    """Yield the texts of a value: itself, or the members of a list or mapping."""
    if isinstance(value, Mapping):
        for member in value.values():
            yield from parts_of(member)
    elif isinstance(value, (list, tuple)):
        for member in value:
            yield from parts_of(member)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


class Mask:
    """The secrets of a run. `values` are (name, value); values that are too short are left out."""

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        self._marks: dict[str, str] = {}
        for name, value in values:
            for form in _forms(value):
                self._marks.setdefault(form, mark_of(name))
        longest_first = sorted(self._marks, key=len, reverse=True)
        text = "|".join(map(re.escape, longest_first))
        self._text = re.compile(text) if text else None
        self._raw_marks = {
            form.encode(errors="surrogateescape"): mark.encode() for form, mark in self._marks.items()
        }
        self._raw = re.compile(
            b"|".join(re.escape(form.encode(errors="surrogateescape")) for form in longest_first)
        )

    def __bool__(self) -> bool:
        """Whether there is anything to mask."""
        return self._text is not None

    def text(self, text: str) -> str:
        """Return a text with marks in place of values."""
        return text if self._text is None else self._text.sub(lambda found: self._marks[found[0]], text)

    def raw(self, data: bytes) -> bytes:
        """Return bytes with marks in place of values."""
        return data if self._text is None else self._raw.sub(lambda found: self._raw_marks[found[0]], data)

    def data(self, data: Any) -> Any:
        """Return plain data with marks in place of values, in keys as well."""
        if self._text is None:
            return data
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, Mapping):
            return {self.data(key): self.data(value) for key, value in data.items()}
        if isinstance(data, (list, tuple)):
            return [self.data(value) for value in data]
        if isinstance(data, (int, float)) and not isinstance(data, bool) and str(data) in self._marks:
            return self._marks[str(data)]
        return data

    def unfinished(self, data: bytes) -> int:
        """Return how many bytes at the end may be the beginning of a value, which more bytes would complete."""
        most = 0
        for form in self._raw_marks:
            for count in range(min(len(form) - 1, len(data)), most, -1):
                if data.endswith(form[:count]):
                    most = count
                    break
        return most


def _forms(value: str) -> Iterable[str]:
    """Yield the forms in which a value may stand in a text."""
    import json  # for runs with secrets only

    pieces = [value.strip("\n")]
    if "\n" in pieces[0]:
        pieces += [line for line in value.split("\n") if len(line.strip()) >= MIN_LINE_CHARACTERS]
    for piece in pieces:
        if len(piece) >= MIN_CHARACTERS:
            written = [
                piece,
                json.dumps(piece)[1:-1],
                json.dumps(piece, ensure_ascii=False)[1:-1],
                _for_html(json.dumps(piece)[1:-1]),  # the filter `tojson`
                repr(piece)[1:-1],
                piece.replace("'", "'\"'\"'"),
                piece.replace("'", "'\\''"),
                piece.replace("'", "''"),
                piece.replace('"', '""'),
                _NOT_PLAIN.sub(r"\\\g<0>", piece),  # printf %q
                _IN_DOUBLE_QUOTES.sub(r"\\\g<0>", piece),
                json.dumps(piece)[1:-1].replace("/", "\\/"),
                _for_html(json.dumps(piece, ensure_ascii=False)[1:-1], "<>&"),  # Go
                *_in_urls(piece),
            ]
            yield from written
            yield from (
                json.dumps(form, ensure_ascii=False)[1:-1] for form in written
            )  # a script in a JSON file


def _in_urls(text: str) -> Iterable[str]:
    """Yield how programs write a text in a URL: they leave other characters as they are, and some write `%2f`."""
    from urllib.parse import quote, quote_plus

    for safe in _SAFE_IN_URLS:
        for write in (quote, quote_plus):
            written = write(text, safe=safe, errors="replace")
            yield written
            yield _ESCAPED.sub(lambda found: found[0].lower(), written)


def _for_html(text: str, characters: str = "<>&'") -> str:
    for character in characters:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
