"""Reads the entries of a run's journal, of every kind, while it grows. For `events` and `explain`: a `RunReader` has states."""

from collections.abc import Collection, Iterator
from pathlib import Path

from protocol.errors import RunDirectoryError
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import open_regular
from sflow_ctl.runtime.record.journal import Entry, read_journal

_READ_BYTES = 1024 * 1024
EVERYTHING = (b"",)
"""A word that every line has."""


class JournalFeed:
    """The entries of one run's journal, each once."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the run's."""
        self._path = directory / layout.JOURNAL
        self._offset = 0
        self._torn = b""

    def entries(self, words: Collection[bytes] = EVERYTHING) -> Iterator[Entry]:
        """Yield the entries since the last call whose line has one of these words. Raises: RunDirectoryError."""
        try:
            with open_regular(self._path) as journal:
                journal.seek(self._offset)
                while block := journal.read(_READ_BYTES):
                    self._offset += len(block)
                    lines = (self._torn + block).split(b"\n")
                    self._torn = lines.pop()
                    yield from read_journal(line for line in lines if any(word in line for word in words))
        except FileNotFoundError:
            return  # nothing has been written yet
        except OSError as error:
            what = f"cannot read {self._path}: {error.strerror or error}"
            raise RunDirectoryError.of("run-not-readable", what) from error
