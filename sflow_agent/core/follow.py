"""Following a log by byte offset: what to send next, and whether a pattern has been seen.

Pure: bytes in, decisions out.
"""

import re
from dataclasses import dataclass

from protocol.codec import MAX_LOG_BODY_BYTES
from protocol.messages import LogPattern

WINDOW_BYTES = 4 * 1024 * 1024
"""Sent and not acknowledged, per log. The file is the buffer for the rest."""
MAX_LINE_BYTES = 1024 * 1024
"""A longer line is matched in pieces of this size."""
_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_BARE_RETURN = re.compile(rb"\r\n?")


@dataclass(slots=True)
class LogStream:
    """One rank's log on its way to the controller."""

    is_spool: bool
    sent: int = 0
    acked: int = 0
    end: int | None = None
    """The log's final size, once the rank has ended."""
    is_end_sent: bool = False

    def next_chunk(self, size: int) -> tuple[int, int] | None:
        """(offset, length) to send now of a file of `size` bytes; None when there is nothing or no room."""
        limit = size if self.end is None else self.end
        length = min(limit - self.sent, MAX_LOG_BODY_BYTES, WINDOW_BYTES - (self.sent - self.acked))
        if length > 0:
            return self.sent, length
        if self.end is not None and self.sent >= self.end and not self.is_end_sent:
            return self.sent, 0
        return None

    def note_sent(self, length: int) -> bool:
        """Counts a chunk as sent; True when it is the last one."""
        self.sent += length
        self.is_end_sent = self.end is not None and self.sent >= self.end
        return self.is_end_sent

    def acknowledge(self, offset: int) -> None:
        """The controller has everything before `offset`.

        Said twice with more in flight, it asks for the rest again: a chunk was lost, or its disk refused it.
        """
        if offset == self.acked < self.sent:
            self.rewind()
        self.acked = max(self.acked, min(offset, self.sent))

    def rewind(self) -> None:
        """The connection was lost with what was in flight: goes on from what was acknowledged."""
        self.sent = self.acked
        self.is_end_sent = False

    def move(self, offset: int) -> None:
        """A watcher wants the log from `offset` on."""
        self.sent = self.acked = offset
        self.is_end_sent = False

    @property
    def is_delivered(self) -> bool:
        """True when the controller has every byte of an ended rank's log."""
        return self.end is not None and self.acked >= self.end and self.is_end_sent


class LineMatcher:
    """Counts a pattern's matches in a growing log; how the bytes come in chunks makes no difference.

    What is searched is text as a person reads it: lines end at newline or carriage return, escape sequences
    are gone, bad UTF-8 is replaced. A literal is seen in a line without its end too (a prompt); an expression
    needs the whole line, as `$` or a lookahead may judge half of one differently.
    """

    def __init__(self, pattern: LogPattern) -> None:
        self._needed = max(1, pattern.count)
        self._literal = pattern.pattern.encode()
        self._regex = re.compile(pattern.pattern) if pattern.is_regex else None
        self._complete = 0
        self._partial = b""
        self.line = ""
        """The line of the newest match, for people."""

    def feed(self, data: bytes) -> bool:
        """Takes the log's next bytes; True when the pattern has been seen often enough."""
        text = self._partial + data
        # A return at the very end may be half of a pair of both: it waits for what follows.
        cut = max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1)) + 1
        if cut == 0 and len(text) > MAX_LINE_BYTES:
            cut = MAX_LINE_BYTES
        self._partial = text[cut:]
        if cut:
            self._complete += self._count(text[:cut])
        if self._complete >= self._needed:
            return True
        if self._regex is not None:
            return False
        return self._complete + self._count(_without_cut_escape(self._partial)) >= self._needed

    def _count(self, raw: bytes) -> int:
        if b"\x1b" in raw:
            raw = _ANSI.sub(b"", raw)
        return self._count_literal(raw) if self._regex is None else self._count_regex(raw, self._regex)

    def _count_literal(self, raw: bytes) -> int:
        found = raw.count(self._literal) if self._literal else 0
        if found:
            position = raw.rfind(self._literal)
            start = max(raw.rfind(b"\n", 0, position), raw.rfind(b"\r", 0, position)) + 1
            line = re.split(rb"[\r\n]", raw[start : position + 500], maxsplit=1)[0]
            self.line = line[:500].decode(errors="replace")
        return found

    def _count_regex(self, raw: bytes, regex: "re.Pattern[str]") -> int:
        total = 0
        for line in _BARE_RETURN.sub(b"\n", raw).split(b"\n"):
            decoded = line.rstrip().decode(errors="replace")
            matches = sum(1 for _ in regex.finditer(decoded))
            if matches:
                total += matches
                self.line = decoded[:500]
        return total


def _without_cut_escape(raw: bytes) -> bytes:
    """Without an escape sequence at the end whose rest is still to come: its parameters are no text."""
    start = raw.rfind(b"\x1b")
    return raw if start < 0 or _ANSI.match(raw, start) else raw[:start]
