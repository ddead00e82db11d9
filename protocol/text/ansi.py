"""Escape sequences of terminals, and where lines end: the text that a person sees of a program's output.

Pure. One copy for pattern searches, success conditions, signatures and outputs. A sequence never reaches
beyond its line, so the result is the same whether a log is read in chunks, in lines or as a whole. Source:
ECMA-48, and the OSC strings of xterm.
"""

import re

LINE_END = re.compile(rb"\r\n|\r|\n")
"""A carriage return ends a line too: progress bars rewrite theirs."""
_COMPLETE = (
    r"\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)"  # OSC: titles, links
    r"|[PX^_][^\x1b\r\n]*\x1b\\"  # DCS, SOS, PM, APC: device strings
    r"|[ -/]+[0-~]"  # character sets
    r"|[0-OQ-WYZ\\`-~]"  # two characters
)
_CUT = r"\[[0-?]*[ -/]*|\][^\x07\x1b\r\n]*\x1b?|[PX^_][^\x1b\r\n]*\x1b?|[ -/]*"
_ESCAPE = re.compile(rf"\x1b(?:{_COMPLETE}|[\[\]PX^_])?".encode())
_ESCAPE_IN_TEXT = re.compile(rf"\x1b(?:{_COMPLETE}|[\[\]PX^_])?")
"""Of a sequence that its line does not complete, only the introducer is removed: the rest may be text."""
_CUT_AT_THE_END = re.compile(rf"\x1b(?:{_CUT})\Z".encode())


def without_escapes(raw: bytes) -> bytes:
    """Return the bytes without escape sequences."""
    return _ESCAPE.sub(b"", raw) if b"\x1b" in raw else raw


def text_without_escapes(text: str) -> str:
    """Return the text without escape sequences."""
    return _ESCAPE_IN_TEXT.sub("", text) if "\x1b" in text else text


def without_cut_escape(raw: bytes) -> bytes:
    """Return the bytes without a sequence at their end that more bytes may complete."""
    position = 0
    while True:
        position = raw.find(b"\x1b", position)
        if position < 0:
            return raw
        if _CUT_AT_THE_END.match(raw, position):
            return raw[:position]
        whole = _ESCAPE.match(raw, position)
        assert whole is not None
        position = whole.end()


def text_of_line(raw: bytes) -> str:
    """Return a line's bytes as text: no escape sequences, no trailing blanks, bad UTF-8 replaced."""
    return without_escapes(raw).decode(errors="replace").rstrip()


_EIGHT_BIT = re.compile(
    "\x9b[0-?]*[ -/]*[@-~]?"  # CSI
    "|[\x90\x98\x9d-\x9f][^\x07\x1b\x9c\r\n]*(?:[\x07\x9c]|\x1b\\\\)?"  # device strings, titles
)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls but tab and newline, marks that reverse the direction of text, and bytes that are not UTF-8."""


def printable(text: str) -> str:
    """Return a foreign text made safe for a terminal: no escape sequence, no control, C1 included.

    Tabs and newlines stay. Of a line that overwrites itself by carriage returns, the last state stays.
    """
    if text.isprintable():
        return text
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _UNPRINTABLE.sub("", _EIGHT_BIT.sub("", text_without_escapes(text)))
