"""Counts a pattern's matches in a growing log. Pure: bytes in, decisions out.

The agent searches logs that are on its node; the controller searches for agents that do not see the run directory.
"""

from protocol.messages.checks import LogPattern
from protocol.text.ansi import LINE_END, text_of_line, without_cut_escape, without_escapes
from protocol.text.line_pattern import LinePattern
from protocol.text.process_labels import LabelRemover

MAX_LINE_BYTES = 1024 * 1024
"""A longer line is matched in pieces of this size."""
SHOWN_CHARACTERS = 500
"""The length of a matched line in messages."""


class LineMatcher:
    """Counts a pattern's matches in a growing log; how its bytes are cut into chunks makes no difference.

    The text that a person sees is searched: lines end at newline or carriage return, escape sequences are
    removed, bad UTF-8 is replaced. A literal is also found in a line without its end (a prompt); an
    expression needs the whole line, as `$` or a lookahead may judge half of one differently.
    """

    def __init__(self, pattern: LogPattern) -> None:
        self._needed = max(1, pattern.count)
        self._literal = pattern.pattern.encode()
        self._regex = LinePattern(pattern.pattern) if pattern.is_regex else None
        self._labels = None if pattern.labels == "none" else LabelRemover(pattern.labels)
        self._labelled = b""
        """The beginning of a line with a label, whose end has not come."""
        self._complete = 0
        self._partial = b""
        self.line = ""
        """The line of the newest match, for people."""

    @property
    def problem(self) -> str:
        """Return why lines were not searched, as a sentence; empty if all were."""
        return "" if self._regex is None else self._regex.problem

    def feed(self, data: bytes) -> bool:
        """Take the log's next bytes; return True once the pattern has been found often enough."""
        text = self._partial + (data if self._labels is None else self._without_labels(self._labels, data))
        # A return at the very end may be half of a pair of both: it waits for the next byte.
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
        return self._complete + self._count(without_cut_escape(self._partial)) >= self._needed

    def end(self) -> bool:
        """Take the end of the log, which ends its last line too; return True if the pattern is there often enough."""
        found = self.feed(b"\n")
        if self._labels is None or found:
            return found
        rest = b"".join(line + b"\n" for line in self._labels.rest())
        self._complete += self._count(rest)
        return self._complete >= self._needed

    def _without_labels(self, labels: LabelRemover, data: bytes) -> bytes:
        """Return the lines that are whole now, as their processes printed them."""
        *lines, self._labelled = (self._labelled + data).split(b"\n")
        whole = (labels.line(line) for line in lines)
        return b"".join(line + b"\n" for line in whole if line is not None)

    def _count(self, raw: bytes) -> int:
        raw = without_escapes(raw)
        return self._count_literal(raw) if self._regex is None else self._count_regex(raw, self._regex)

    def _count_literal(self, raw: bytes) -> int:
        found = raw.count(self._literal) if self._literal else 0
        if found:
            position = raw.rfind(self._literal)
            start = max(raw.rfind(b"\n", 0, position), raw.rfind(b"\r", 0, position)) + 1
            line = LINE_END.split(raw[start : position + SHOWN_CHARACTERS], maxsplit=1)[0]
            self.line = line[:SHOWN_CHARACTERS].decode(errors="replace")
        return found

    def _count_regex(self, raw: bytes, regex: LinePattern) -> int:
        total = 0
        for line in LINE_END.split(raw) if regex.may_be_in(LINE_END.sub(b"\n", raw)) else ():
            text = text_of_line(line)
            found = regex.count(text, self._needed)
            if found:
                total += found
                self.line = text[:SHOWN_CHARACTERS]
        return total
