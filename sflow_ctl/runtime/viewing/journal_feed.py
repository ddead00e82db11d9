"""Reads the entries of a run's journal, of every kind, while it grows. For `events`, `explain` and the full-screen view.

A `RunReader` has the states of tasks.
"""

import contextlib
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from protocol.errors import RunDirectoryError
from sflow_ctl.core.events import AgentJoined, AgentLost
from sflow_ctl.runtime.journal.entry import Entry
from sflow_ctl.runtime.journal.reader import EVERYTHING, JournalReader


class JournalFeed:
    """The entries of one run's journal, each once."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the run's."""
        self._directory = directory
        self._reader = JournalReader(directory)

    def entries(self, words: Collection[bytes] = EVERYTHING) -> Iterator[Entry]:
        """Yield the entries since the last call whose line has one of these words. Raises: RunDirectoryError."""
        try:
            yield from self._reader.entries(words)
        except FileNotFoundError:
            return  # nothing has been written yet
        except OSError as error:
            what = f"cannot read the journal in {self._directory}: {error.strerror or error}"
            raise RunDirectoryError.of("run-not-readable", what) from error


class NodeWatch:
    """Which nodes' agents have joined the run, and which nodes were lost. `refresh` reads new entries."""

    _WORDS = (b'"agent_joined"', b'"agent_lost"')

    def __init__(self, directory: Path) -> None:
        """`directory` is the run's."""
        self._feed = JournalFeed(directory)
        self.joined: set[int] = set()
        self.lost: dict[int, str] = {}
        self.guard: AbstractContextManager[object] = contextlib.nullcontext()
        """Held while these change, never while the journal is read."""

    def refresh(self) -> None:
        """Take in what was written since the last call. Raises: RunDirectoryError."""
        entries = list(self._feed.entries(self._WORDS))
        with self.guard:
            for entry in entries:
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        if isinstance(entry.event, AgentJoined):
            self.joined.add(entry.event.hello.node)
            self.lost.pop(entry.event.hello.node, None)
        elif isinstance(entry.event, AgentLost):
            self.lost[entry.event.node] = entry.event.reason
