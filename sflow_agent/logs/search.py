"""One pattern of a probe, searched in one log as it grows. `follower` has all of a node, and says when to read."""

import os
from collections.abc import Iterator

from msgspec import Struct

from protocol.messages.checks import LogPattern
from protocol.session.codec import MAX_LOG_BODY_BYTES
from protocol.text.line_matcher import LineMatcher


class Search(Struct):
    """One probe's pattern in one log."""

    pattern: LogPattern
    matcher: LineMatcher
    offset: int = 0
    is_done: bool = False
    is_last: bool = False
    """The log has grown for the last time: what is not found by its end is not there."""

    @classmethod
    def begin(cls, pattern: LogPattern) -> "Search":
        """A search from the beginning of a log."""
        return cls(pattern, LineMatcher(pattern))

    def restart(self) -> None:
        """The log is another file now."""
        self.matcher, self.offset = LineMatcher(self.pattern), 0

    def look_last(self) -> None:
        """Say with the next `read` to the log's end whether the pattern is there."""
        self.is_last, self.is_done = True, False

    def read(self, path: str, budget: int) -> tuple[int, bool | None]:
        """Search at most `budget` more bytes; return what is left of it, and the result once it is known."""
        for data in _blocks(path, self.offset, budget):
            self.offset += len(data)
            budget -= len(data)
            if self.matcher.feed(data):
                self.is_done = True
                return budget, True
        if not self.is_last or budget <= 0:
            return budget, None
        self.is_done = True
        return budget, self.matcher.end()


def _blocks(path: str, offset: int, budget: int) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        while budget > 0 and (data := os.pread(descriptor, MAX_LOG_BODY_BYTES, offset)):
            offset += len(data)
            budget -= len(data)
            yield data
    finally:
        os.close(descriptor)
