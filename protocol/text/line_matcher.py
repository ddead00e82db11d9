"""Whether a pattern has been seen in a log. Pure: bytes in, decisions out.

The agent searches what is on its node; the controller searches for agents that do not see the run directory.
"""

import re

from protocol.messages.checks import LogPattern

MAX_LINE_BYTES = 1024 * 1024
"""A longer line is matched in pieces of this size."""
_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_BARE_RETURN = re.compile(rb"\r\n?")


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
