"""Reads the files in which tasks mark windows of their time: a line for each beginning and end. `meter` calls it.

A file, because it works in containers and from every language: `<ns since 1970> begin|end NAME`.
"""

import os

from msgspec import Struct, field

from protocol.ids import RankId
from protocol.messages.telemetry import MAX_NAME, MarkedWindow

READ_BYTES = 64 * 1024
LAST_READS = 65
"""Of a file that has grown much since the last look: more than its windows that are kept need."""
MAX_WINDOWS = 1000
"""Of one rank."""


class MarkedRank(Struct):
    """The file of one rank, and its windows that have no end yet."""

    rank: RankId
    path: str
    offset: int = 0
    rest: bytes = b""
    open: dict[str, int] = field(default_factory=dict)
    count: int = 0
    problem: str = ""
    """What was wrong with a line, for a person."""

    def look(self) -> list[MarkedWindow]:
        """Return the windows that have ended since the last look; most tasks have no such file."""
        try:
            if os.stat(self.path).st_size <= self.offset:  # noqa: PTH116 - hot path
                return []
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return []
        try:
            data = os.pread(descriptor, READ_BYTES, self.offset)
        except OSError:
            return []
        finally:
            os.close(descriptor)
        self.offset += len(data)
        return self.feed(data)

    def feed(self, data: bytes) -> list[MarkedWindow]:
        """Take in what was added to the file; return the windows that end with it."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.rest = self.rest[-READ_BYTES:]
        found: list[MarkedWindow] = []
        for line in lines:
            parsed = _parsed(line)
            if parsed is None:
                self.problem = self.problem or (
                    f"{self.rank}: a line of its file of marks is not `<ns since 1970> begin|end NAME`: "
                    f"{line[:80].decode(errors='replace')}"
                )
                continue
            at_ms, is_end, name = parsed
            begun = self.open.pop(name, None)
            if begun is not None:
                found += self._window(name, begun, max(begun, at_ms))
            if not is_end:
                self.open[name] = at_ms
        return found

    def end(self) -> list[MarkedWindow]:
        """Return the last windows of a rank that has ended; those without an end are open."""
        found: list[MarkedWindow] = []
        for _ in range(LAST_READS):
            before = self.offset
            found += self.look()
            if self.offset == before:
                break
        if self.rest.strip():  # its last line has no end
            found += self.feed(b"\n")
        for name, begun in self.open.items():
            found += self._window(name, begun, None)
        self.open.clear()
        return found

    def _window(self, name: str, begin_ms: int, end_ms: int | None) -> list[MarkedWindow]:
        self.count += 1
        if self.count > MAX_WINDOWS:
            self.problem = self.problem or f"{self.rank}: only its first {MAX_WINDOWS} windows are kept"
            return []
        return [MarkedWindow(rank=self.rank, name=name, begin_ms=begin_ms, end_ms=end_ms)]


def _parsed(line: bytes) -> tuple[int, bool, str] | None:
    words = line.decode(errors="replace").split(None, 2)
    if len(words) != 3 or not words[0].isascii() or not words[0].isdecimal() or len(words[0]) > 19:
        return None
    time, kind, name = words
    if kind not in ("begin", "end") or not name.strip():
        return None
    return int(time) // 1_000_000, kind == "end", name.strip()[:MAX_NAME]
