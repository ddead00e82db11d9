"""Finds the lines of a growing log at which a window starts and ends. Pure.

The first or last line with a pattern of `start`, then the first or last one with a pattern of `end` after it. `windows`
feeds it a rank's log, with the time at which it saw the bytes.
"""

from protocol.messages.checks import LogPattern
from protocol.messages.monitor import LogWindow, Mark, MarkPatterns
from protocol.text.ansi import text_of_line
from protocol.text.line_matcher import MAX_LINE_BYTES, SHOWN_CHARACTERS
from protocol.text.line_pattern import LinePattern
from protocol.text.process_labels import LabelRemover, Labels


class MarkFinder:
    """The window of one rank. `start` and `end` are what was found so far."""

    def __init__(self, window: LogWindow, labels: Labels) -> None:
        self.start: Mark | None = None
        self.end: Mark | None = None
        self._starts, self._ends = _Side(window.start), _Side(window.end)
        self._labels = LabelRemover(labels)
        self._is_labelled = labels != "none"
        self._partial = b""
        self._offset = 0
        """Of the first byte of `_partial`."""

    @property
    def problems(self) -> list[str]:
        """Return a sentence about each pattern that takes too long on a line."""
        return [*self._starts.problems(), *self._ends.problems()]

    @property
    def is_settled(self) -> bool:
        """Return whether later lines cannot change the window."""
        return self.end is not None and not self._starts.is_last and not self._ends.is_last

    def feed(self, data: bytes, at_ms: int) -> None:
        """Take the log's next bytes, seen at this time."""
        text = self._partial + data
        cut = text.rfind(b"\n") + 1
        if cut == 0 and len(text) > MAX_LINE_BYTES:
            cut = len(text)
        self._partial = text[cut:]
        self._search(text[:cut], at_ms)
        self._offset += cut

    def finish(self, at_ms: int) -> None:
        """Take the end of the log, which ends its last line too."""
        self.feed(b"\n" if self._partial else b"", at_ms)
        for line in self._labels.rest():
            self._look(line, self._offset, at_ms)

    def restart(self) -> None:
        """Begin anew: the log was truncated."""
        self._partial, self._offset = b"", 0

    def _search(self, block: bytes, at_ms: int) -> None:
        if not block or not (self._is_labelled or self._may_matter(block)):
            return
        offset = self._offset
        for raw in block.splitlines(keepends=True):
            line = self._labels.line(raw.rstrip(b"\r\n"))
            if line is not None:
                self._look(line, offset, at_ms)
            offset += len(raw)

    def _may_matter(self, block: bytes) -> bool:
        """Return False if it is certain that no line of the block changes anything; labels cut lines into pieces."""
        if self.start is None:
            return self._starts.may_be_in(block)
        return self._ends.may_be_in(block) or (self._starts.is_last and self._starts.may_be_in(block))

    def _look(self, raw: bytes, offset: int, at_ms: int) -> None:
        line = text_of_line(raw)
        found = self._starts.found_in(line) if self.start is None or self._starts.is_last else ()
        if found:
            self.start = _marked(self.start, line, offset, at_ms, found)
            self.end = None  # it was the end of an earlier start
            return
        if self.start is None or (self.end is not None and not self._ends.is_last):
            return
        found = self._ends.found_in(line)
        if found:
            self.end = _marked(self.end, line, offset, at_ms, found)


class _Side:
    """The patterns of one end of a window."""

    def __init__(self, patterns: MarkPatterns) -> None:
        self.is_last = patterns.is_last
        self._patterns = [
            (one, LinePattern(one.pattern) if one.is_regex else None) for one in patterns.patterns
        ]

    def may_be_in(self, block: bytes) -> bool:
        """Return False if it is certain that no line of the block has a pattern."""
        if b"\x1b" in block:
            return True  # an escape sequence may be in the middle of a literal
        return any(
            regex.may_be_in(block) if regex is not None else one.pattern.encode() in block
            for one, regex in self._patterns
        )

    def problems(self) -> list[str]:
        """Return a sentence about each pattern that takes too long on a line."""
        return [regex.problem for _, regex in self._patterns if regex is not None and regex.problem]

    def found_in(self, line: str) -> tuple[str, ...]:
        """Return the patterns that are in a line, as the file writes them."""
        return tuple(
            _written(one)
            for one, regex in self._patterns
            if (regex.is_in(line) if regex is not None else one.pattern in line)
        )


def _written(pattern: LogPattern) -> str:
    return f"re:{pattern.pattern}" if pattern.is_regex else pattern.pattern


def _marked(before: Mark | None, line: str, offset: int, at_ms: int, found: tuple[str, ...]) -> Mark:
    return Mark(
        at_ms=at_ms,
        offset=offset,
        line=line[:SHOWN_CHARACTERS],
        is_cut=len(line) > SHOWN_CHARACTERS,
        patterns=found,
        count=1 if before is None else before.count + 1,
    )
