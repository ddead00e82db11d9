"""Searches logs for patterns on behalf of probes on nodes that do not share the run directory.

Owned by the output thread. The file is read as it grows, so a flood costs no memory; a log that is started
anew (by a retry) is searched from its beginning.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from protocol.ids import ProbeKey, RankId
from protocol.messages.checks import LogPattern
from protocol.messages.facts import LogSearch
from protocol.messages.orders import LogMatched
from protocol.text.line_matcher import LineMatcher
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.runtime.logs.consumers.consumer import LogConsumer
from sflow_ctl.runtime.logs.store import RankLog, log_file

LOOK_EVERY_S = 0.05
READ_BYTES = 256 * 1024


class _Search(Struct):
    """One probe's pattern in one file."""

    node: int
    path: Path
    pattern: LogPattern
    matcher: LineMatcher
    inode: int = 0
    offset: int = 0

    def read_on(self, budget: int) -> tuple[int, bool]:
        """Return the number of bytes read and whether the pattern was seen. Raises: OSError."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            inode = os.fstat(descriptor).st_ino
            if inode != self.inode:
                self.inode, self.offset, self.matcher = inode, 0, LineMatcher(self.pattern)
            read = 0
            while read < budget and (data := os.pread(descriptor, READ_BYTES, self.offset)):
                read += len(data)
                self.offset += len(data)
                if self.matcher.feed(data):
                    return read, True
            return read, False
        finally:
            os.close(descriptor)


class LogSearches(LogConsumer):
    """All searches without a result yet; `report` gets (node, answer) pairs of those that have found their pattern."""

    def __init__(
        self,
        run_directory: Path,
        report: Callable[[list[tuple[int, LogMatched]]], object],
        warn: Callable[[str], object],
    ) -> None:
        self._run_directory = run_directory
        self._report, self._warn = report, warn
        self._warned: set[str] = set()
        self._searches: dict[tuple[RankId, ProbeKey], _Search] = {}
        self._next_look = 0.0

    def take(self, node: int, asked: LogSearch) -> None:
        """Begin a search, or end it. A repeated question starts anew, since the answer may have been lost.

        A task name that would lead out of the run directory is ignored.
        """
        key = asked.rank, asked.key
        if asked.pattern is None:
            self._searches.pop(key, None)
            return
        path = log_file(self._run_directory, log_path(asked.task))
        if path is None:
            return
        self._searches[key] = _Search(node, path, asked.pattern, LineMatcher(asked.pattern))
        self._next_look = 0.0

    def node_lost(self, node: int) -> None:
        """Drop the searches of a node that was lost."""
        self._searches = {key: one for key, one in self._searches.items() if one.node != node}

    def wake_at(self, now: float) -> float | None:
        """Return when the next read is due; None without searches."""
        return max(self._next_look, now) if self._searches else None

    def work(self, now: float, limit: int) -> list[RankLog]:
        """Read, if it is due, and report the findings."""
        found = self.look(now, limit)
        if found:
            self._report(found)
        return []

    def look(self, now: float, budget: int) -> list[tuple[int, LogMatched]]:
        """Return the findings since the last call, with the nodes that asked; empty before the next read is due."""
        if now < self._next_look:
            return []
        self._next_look = now + LOOK_EVERY_S
        found = []
        for (rank, key), search in list(self._searches.items()):
            with suppress(OSError):  # it does not exist yet, or is just being renamed
                read, is_seen = search.read_on(budget)
                self._say_problem(rank, search.matcher.problem)
                if is_seen:
                    del self._searches[rank, key]
                    found.append((search.node, LogMatched(rank=rank, key=key, line=search.matcher.line)))
                elif read >= budget:
                    self._next_look = now  # there is more of it; the other logs have their turn first
        return found

    def _say_problem(self, rank: RankId, problem: str) -> None:
        """Say once that a pattern takes too long."""
        if problem and problem not in self._warned:
            self._warned.add(problem)
            self._warn(f"{rank}: {problem}")
