"""Reads JSON as programs write it: with a byte order mark, with `NaN`, in UTF-16, or as one document after the other.

Conditions (`success`, probes) and values (`outputs`, `result`) are read here alike, so that what one accepts the other does.
"""

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from protocol.text.lazy_pattern import lazy_pattern

_BLANKS = lazy_pattern(r"[\s\x1e]*")
"""JSON text sequences have a record separator before each document. Source: RFC 7464."""


def encoding_of(beginning: bytes) -> str:
    """Return the encoding that a file's first bytes announce, which reads it without its byte order mark."""
    is_utf_16 = beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if is_utf_16 else "utf-8-sig"


def decoded(content: bytes) -> str:
    """Return the text of a file, without its byte order mark. What is not text becomes replacement characters."""
    return content.decode(encoding_of(content), errors="replace")


def documents(content: bytes) -> list[Any]:
    """Return the documents of a file, at least one. Raises: ValueError, RecursionError."""
    try:
        return [msgspec.json.decode(content)]
    except msgspec.DecodeError:
        return list(documents_of(decoded(content)))


def documents_of(text: str, parse_int: Callable[[str], Any] | None = None) -> Iterator[Any]:
    """Yield the documents of a text, one after the other. Raises: ValueError, RecursionError."""
    decoder = json.JSONDecoder(parse_int=parse_int)
    position = _blanks_end(text, len(text) - len(text.lstrip("\ufeff")))
    if position == len(text):
        raise ValueError("the file is empty")
    while position < len(text):
        document, end = decoder.raw_decode(text, position)
        yield document
        position = _blanks_end(text, end)


def _blanks_end(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    assert match is not None
    return match.end()
