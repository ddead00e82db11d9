"""One log that is searched or sent, or both. `follower.py` has all of a node, and says when to read."""

import os
from collections.abc import Callable

from msgspec import Struct, field

from protocol.ids import ProbeKey, RankId
from sflow_agent.core.events import CheckObserved
from sflow_agent.core.send_window import SendWindow
from sflow_agent.logs.search import Search
from sflow_agent.logs.spool import DeliveredPart, IndexEntry, LeftLog, SpoolIndex, log_size, size_if_there


class Log(Struct):
    """One file that is searched or sent."""

    path: str
    stream: SendWindow | None = None
    relative: str = ""
    """The path within the spool, of a log that the spool's index has."""
    delivered: DeliveredPart | None = None
    """For a spooled log of which nothing but its beginning and end is read again."""
    searches: dict[tuple[RankId, ProbeKey], Search] = field(default_factory=dict)
    size: int = 0
    """The last known size of a log that its task writes itself."""
    truncations: int = 0
    """Of those that its writer has counted, how many are known here."""
    noted_base: int = 0
    """The stream's base that the spool's index has."""
    is_shrunk: bool = False
    """It has become shorter, and a warning was given."""
    foreign_inode: int | None = None
    """For another task's log: the file that has been searched so far, 0 before there was one."""

    @classmethod
    def of_left(cls, left: LeftLog) -> "Log":
        """Return the log of a rank that has ended, which an earlier agent could not hand over."""
        end = left.base + log_size(left.path)
        return cls(
            left.path, SendWindow(is_spool=True, sent=left.base, acked=left.base, base=left.base, end=end)
        )

    def search(self, budget: int, seen: list[CheckObserved], warn: Callable[[str], None]) -> int:
        """Search what is new, at most `budget` bytes; add what is found to `seen`, and return what is left."""
        for (owner, key), search in self.searches.items():
            if search.is_done:
                continue
            if 0 <= size_if_there(self.path) < search.offset:
                self.note_shrunk(warn)
                search.restart()
            budget, result = search.read(self.path, budget)
            if search.matcher.problem:
                warn(f"{owner}: {search.matcher.problem}")  # shown once for each text
            if result is not None:
                seen.append(CheckObserved(owner, key, result, search.matcher.line))
        return budget

    def note_base(self, rank: RankId, index: SpoolIndex | None) -> None:
        """Have the spool's index know where in the stream the file begins."""
        assert self.stream is not None
        if self.stream.base != self.noted_base and index is not None and self.relative:
            index.note(IndexEntry(rank, self.relative, base=self.stream.base))
        self.noted_base = self.stream.base

    def begin_anew(self, truncations: int, warn: Callable[[str], None], *, is_shorter: bool = False) -> None:
        """Read from the beginning if the log is shorter, or was truncated so often and may be as long as it was by now."""
        if truncations == self.truncations and not is_shorter:
            return
        self.truncations = truncations
        self.note_shrunk(warn)
        for search in self.searches.values():
            if not search.is_done:
                search.restart()
        if self.stream is not None and self.stream.end is None:
            self.stream.start_anew()

    def note_shrunk(self, warn: Callable[[str], None]) -> None:
        """Warn, once, that the log was truncated."""
        self.delivered = None
        if not self.is_shrunk:
            self.is_shrunk = True
            warn(f"{self.path} was truncated: it is read from its beginning again")

    def look_at_foreign(self) -> bool:
        """Begin the searches anew if another task's log is another file now; return whether there is one."""
        try:
            found = os.stat(self.path)  # noqa: PTH116
        except OSError:
            return False
        if found.st_ino != self.foreign_inode:
            self.foreign_inode = found.st_ino
            for search in self.searches.values():
                search.restart()
        return True

    def free_delivered(self) -> None:
        """Give back what the controller has and all searches have seen."""
        if self.delivered is not None and self.stream is not None:
            unread = [one.offset for one in self.searches.values() if not one.is_done]
            self.delivered.free_to(min(self.stream.acked - self.stream.base, *unread, log_size(self.path)))
