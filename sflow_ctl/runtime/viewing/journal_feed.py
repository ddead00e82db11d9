"""Reads the entries of a run's journal, of every kind, while it grows. For `events` and `explain`: a `RunReader` has states."""

from collections.abc import Collection, Iterator
from pathlib import Path

from protocol.errors import RunDirectoryError
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
