"""Following a log by byte offset: what to send next, and whether a pattern has been seen. Pure: bytes in, decisions out."""

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
        """(offset, length) to read and send now of a file of `size` bytes; None when there is nothing or no room."""
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
        """The controller has everything before `offset`; an offset behind what was sent after a gap rewinds."""
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
        return self.end is not None and self.acked >= self.end and (self.end == 0 or self.is_end_sent)


class LineMatcher:
    """Counts a pattern's matches in a growing log, each byte looked at once, whatever the chunks.

    What is searched is text as a person reads it: lines end at newline or carriage return, escape sequences are gone,
    bad UTF-8 is replaced. A last line without its end counts too, as long as it matches.
    """

    def __init__(self, pattern: LogPattern) -> None:
        self._needed = max(1, pattern.count)
        self._literal = None if pattern.is_regex else pattern.pattern.encode()
        self._regex = re.compile(pattern.pattern) if pattern.is_regex else None
        self._complete = 0
        self._partial = b""
        self.line = ""
        """The line of the newest match, for people."""

    def feed(self, data: bytes) -> bool:
        """Takes the log's next bytes; True when the pattern has been seen often enough."""
        text = self._partial + data
        # A return at the very end may be half of "\\r\\n", an escape may be cut: both wait for what follows.
        cut = max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1)) + 1
        if cut == 0 and len(text) > MAX_LINE_BYTES:
            cut = MAX_LINE_BYTES
        self._partial = text[cut:]
        if cut:
            self._complete += self._count(text[:cut])
        if self._complete >= self._needed:
            return True
        return self._complete + self._count(self._partial[:MAX_LINE_BYTES]) >= self._needed

    def _count(self, raw: bytes) -> int:
        if not raw:
            return 0
        if b"\x1b" in raw:
            raw = _ANSI.sub(b"", raw)
        if self._literal is not None:
            found = raw.count(self._literal) if self._literal else 0
            if found:
                position = raw.rfind(self._literal)
                start = max(raw.rfind(b"\n", 0, position), raw.rfind(b"\r", 0, position)) + 1
                line = re.split(rb"[\r\n]", raw[start : position + 500], maxsplit=1)[0]
                self.line = line[:500].decode(errors="replace")
            return found
        assert self._regex is not None
        total = 0
        for line in _BARE_RETURN.sub(b"\n", raw).split(b"\n"):
            decoded = line.rstrip().decode(errors="replace")
            matches = sum(1 for _ in self._regex.finditer(decoded))
            if matches:
                total += matches
                self.line = decoded[:500]
        return total
