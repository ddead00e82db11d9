"""Escape sequences of terminals, and where lines end: the text that a person sees of a program's output.

Pure. One copy for pattern searches, success conditions, signatures and outputs. A sequence never reaches
beyond its line, so the result is the same whether a log is read in chunks, in lines or as a whole. Source:
ECMA-48, and the OSC strings of xterm.
"""

from protocol.text.lazy_pattern import lazy_pattern

LINE_END = lazy_pattern(rb"\r\n|\r|\n")
"""A carriage return ends a line too: progress bars rewrite theirs."""
_COMPLETE = (
    r"\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)"  # OSC: titles, links
    r"|[PX^_][^\x1b\r\n]*\x1b\\"  # DCS, SOS, PM, APC: device strings
    r"|[ -/]+[0-~]"  # character sets
    r"|[0-OQ-WYZ\\`-~]"  # two characters
)
_CUT = r"\[[0-?]*[ -/]*|\][^\x07\x1b\r\n]*\x1b?|[PX^_][^\x1b\r\n]*\x1b?|[ -/]*"
_ESCAPE = lazy_pattern(rf"\x1b(?:{_COMPLETE}|[\[\]PX^_])?".encode())
_ESCAPE_IN_TEXT = lazy_pattern(rf"\x1b(?:{_COMPLETE}|[\[\]PX^_])?")
"""Of a sequence that its line does not complete, only the introducer is removed: the rest may be text."""
_CUT_AT_THE_END = lazy_pattern(rf"\x1b(?:{_CUT})\Z".encode())


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


_COLOUR = lazy_pattern(r"\x1b\[[0-9;:]*m")
_RESETS = ("\x1b[0m", "\x1b[m")
_UNSAFE = lazy_pattern(
    rf"\x1b(?:{_COMPLETE}|[\[\]PX^_])?"
    "|\x9b[0-?]*[ -/]*[@-~]"  # CSI as one character
    "|[\x90\x98\x9d-\x9f][^\x07\x1b\x9c\r\n]*(?:[\x07\x9c]|\x1b\\\\)"  # device strings, titles
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # controls but tab and newline, C1 included
    "|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # marks that change the direction of text
    "|[\u2028\u2029]"  # line and paragraph separators
    "|[\ud800-\udfff]"  # bytes that are not UTF-8
)
_ASCII_CONTROLS = bytes(set(range(32)) - set(b"\t\n")) + b"\x7f"


def printable(text: str, *, keeps_colours: bool = False) -> str:
    """Return a text from elsewhere as it may reach a terminal: no escape sequence, no control, C1 included.

    Every text of another program, user or host passes through here on its way to a terminal, and nothing else decides
    what is safe. Tabs and newlines stay. Of a line that overwrites itself by carriage returns, the last state stays.
    With `keeps_colours`, colours (SGR) stay and end with their line.
    """
    if text.isprintable():
        return text
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    if not keeps_colours:
        return _UNSAFE.sub("", text)
    text = _UNSAFE.sub(lambda match: match[0] if _COLOUR.fullmatch(match[0]) else "", text)
    return "\n".join(map(_with_colours_ended, text.split("\n"))) if "\x1b" in text else text


def printable_output(data: bytes) -> bytes:
    """Return a program's output as it may reach a terminal, with its colours; bytes that are not UTF-8 are replaced."""
    if data.isascii() and len(data.translate(None, _ASCII_CONTROLS)) == len(data):
        return data
    return printable(data.decode(errors="replace"), keeps_colours=True).encode()


def printable_line(text: str) -> str:
    """Return a name or another short text from elsewhere on one line: a newline in it would begin a line of its own."""
    return " ".join(printable(text).split("\n")).replace("\t", " ")


def _with_colours_ended(line: str) -> str:
    last = line.rfind("\x1b[")
    return line if last < 0 or line.startswith(_RESETS, last) else f"{line}{_RESETS[0]}"
