"""Reads a journal over its segments: the one way to do so, for viewers, resumes, and controllers that take over.

`JournalReader` follows one that grows; `lines_of` and `entries_of` read what is there. What cannot be read is counted and said,
and the rest is read all the same.
"""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from protocol.errors import RunDirectoryError
from protocol.text.counted import counted
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.runtime.journal.entry import FORMAT, Entry, decode_entry
from sflow_ctl.runtime.journal.segments import closed_segments, read_closed, segment_number
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, open_regular

READ_BYTES = 1024 * 1024
TRANSITION = b'"kind":"transition"'
SHOWN = (
    TRANSITION,
    b'"kind":"waiting"',
    b'"kind":"uploads"',
    b'"kind":"checkpoint"',
    b'"kind":"takeover"',
    b'"kind":"request"',
    b'"type":"node_stands_still"',
)
"""What viewers show. Only such lines are decoded for them: the events of a large run are most of its journal."""
EVERYTHING = (b"",)
"""A word that every line has."""
_BEGIN = b'"kind":"begin"'
_HEAD_BYTES = 64
_SEQ = lazy_pattern(rb'^\{"seq":(\d{1,18}),')


class Place(NamedTuple):
    """How far a journal has been read."""

    segment: int
    offset: int
    seq: int
    """The number of the last line before it."""


START = Place(0, 0, 0)


class JournalReader:
    """Yields the lines of a journal, each once, while it grows and its segments change."""

    def __init__(self, directory: Path, start: Place = START) -> None:
        """`directory` is the run's. `start` is where an earlier reader has been."""
        self._path = directory / layout.JOURNAL
        self._segment, self._offset, self.last_seq = start
        self._torn = b""
        self._unreadable = self._missing = 0
        self._whole: list[bytes] = []
        """The lines of the block that is read, where all numbers are there."""
        self._first_unreadable: int | None = None
        """The number of the line before it."""
        self._torn_ends = 0
        """Lines that a controller was writing when it was killed: the next controller's follow them."""
        self._lost_files: list[str] = []

    @property
    def place(self) -> Place:
        """Return where the next new line begins."""
        return Place(self._segment, self._offset - len(self._torn), self.last_seq)

    @property
    def segment(self) -> int:
        """Return the number of the segment that grows, as far as it is known; at least 1."""
        return max(1, self._segment)

    def fits(self) -> bool:
        """Return whether the journal has a line's end where this reader is, and the next number after it."""
        try:
            with open_regular(self._path) as file:
                number = segment_number(file, self._path)
                if number != self._segment:
                    return number > self._segment and self._segment in closed_segments(self._path)
                file.seek(self._offset - 1)
                end, line = file.read(1), file.readline(_HEAD_BYTES)
        except (OSError, ValueError):
            return False
        found = _SEQ.match(line)
        return end == b"\n" and (not line or (found is not None and int(found[1]) == self.last_seq + 1))

    def lines(self) -> Iterator[bytes]:
        """Yield the complete lines since the last call.

        Raises: OSError; FileNotFoundError if nothing has been written yet; RunDirectoryError for a journal of a newer format.
        """
        try:
            file = open_regular(self._path)
        except FileNotFoundError:
            closed = closed_segments(self._path)
            if not closed:
                raise
            yield from self._closed(closed, max(closed) + 1)
            self._segment, self._offset, self._torn = max(closed) + 1, 0, b""
            self._lose(self._path.name)
            return
        with file:
            # While it is open it stays this segment, and those before it have their last names.
            number = segment_number(file, self._path)
            if self._segment < number:
                if self._segment > 0 or number > 1:
                    yield from self._closed(closed_segments(self._path), number)
                self._segment, self._offset, self._torn = number, 0, b""
            file.seek(self._offset)
            yield from self._read(file.read)

    def entries(self, words: Collection[bytes]) -> Iterator[Entry]:
        """Yield the new entries whose line has one of these words; only such lines are decoded. Raises: as `lines`."""
        for line in self.lines():
            if any(word in line for word in words):
                try:
                    yield decode_entry(line)
                except UNREADABLE:
                    self._note_unreadable(self._number_before(line))

    def problems(self) -> list[str]:
        """Return what of the journal could not be read so far, as sentences."""
        name = self._path.name
        found = [f"{one} is missing or damaged: what it recorded is unknown" for one in self._lost_files]
        if (unreadable := self._unreadable - self._torn_ends) > 0:
            where = f"after line {self._first_unreadable}"
            found.append(f"{counted(unreadable, 'line')} of {name} cannot be read, the first {where}")
        if self._missing > 0:
            found.append(
                f"{counted(self._missing, 'line')} of {name} {'is' if self._missing == 1 else 'are'} missing"
            )
        return found

    def _closed(self, closed: dict[int, Path], before: int) -> Iterator[bytes]:
        """Yield the rest of the segment that is being read, and the full ones after it."""
        for number in range(max(1, self._segment), before):
            offset = self._offset if number == self._segment else 0
            self._segment, self._offset = number, offset
            self._torn = self._torn if offset else b""
            try:
                content = read_closed(closed[number])
            except (KeyError, OSError):
                content = b""
            if not content.endswith(b"\n"):
                self._lose(f"events.{number:06}.jsonl.gz")
            view = memoryview(content)[offset:]
            pieces = (bytes(view[at : at + READ_BYTES]) for at in range(0, len(view), READ_BYTES))
            yield from self._read(lambda _size, pieces=pieces: next(pieces, b""))  # type: ignore[misc]

    def _read(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        while block := read(READ_BYTES):
            self._offset += len(block)
            lines = (self._torn + block).split(b"\n")
            self._torn = lines.pop()
            lines = [line for line in lines if line]
            if _BEGIN in block:
                self._check_format(lines)
            yield from self._numbered(lines)

    def _numbered(self, lines: list[bytes]) -> list[bytes]:
        """Return the lines that are whole; count the others, and numbers that are left out."""
        first, last = (_seq(lines[0]), _seq(lines[-1])) if lines else (0, 0)
        if first == self.last_seq + 1 and last == self.last_seq + len(lines):
            self.last_seq, self._whole = last, lines
            return lines
        whole, is_torn, self._whole = [], False, []
        for line in lines:
            seq = _seq(line)
            if not seq:
                self._note_unreadable(self.last_seq)
                is_torn = True
                continue
            self._torn_ends += is_torn and _BEGIN in line
            # Without the line before, and after another writer, nothing is known of the numbers between.
            self._missing += max(0, seq - self.last_seq - 1 - is_torn)
            self.last_seq, is_torn = seq, False
            whole.append(line)
        return whole

    def _check_format(self, lines: list[bytes]) -> None:
        """Raises: RunDirectoryError for a newer format."""
        for line in lines:
            if _BEGIN not in line:
                continue
            try:
                begin = decode_entry(line).begin
            except UNREADABLE:
                continue
            if begin is not None and begin.format > FORMAT:
                raise RunDirectoryError.of(
                    "run-not-readable",
                    f"{self._path} was written by sflow-ctl {begin.version}, in format {begin.format}; this version reads "
                    f"up to {FORMAT}",
                    hint=f"use sflow-ctl {begin.version}",
                )

    def _note_unreadable(self, before: int) -> None:
        self._unreadable += 1
        first = self._first_unreadable
        self._first_unreadable = before if first is None else min(first, before)

    def _number_before(self, line: bytes) -> int:
        """Return the number of the line before one that was yielded and cannot be decoded."""
        seq = _seq(line)
        if not seq and line in self._whole:
            seq = self.last_seq - len(self._whole) + 1 + self._whole.index(line)
        return max(0, seq - 1)

    def _lose(self, name: str) -> None:
        if name not in self._lost_files:
            self._lost_files.append(name)


def lines_of(directory: Path, start: Place = START) -> Iterator[bytes]:
    """Yield the lines of a run's journal from a place on; none if it has none. Raises: OSError; RunDirectoryError."""
    try:
        yield from JournalReader(directory, start).lines()
    except FileNotFoundError:
        return


def entries_of(directory: Path, words: Collection[bytes], start: Place = START) -> Iterator[Entry]:
    """Yield the entries of a run's journal whose line has one of these words, from a place on.

    Raises: OSError; RunDirectoryError.
    """
    try:
        yield from JournalReader(directory, start).entries(words)
    except FileNotFoundError:
        return


def _seq(line: bytes) -> int:
    """Return the number of a line; 0 for one that is not whole."""
    found = _SEQ.match(line) if line.endswith(b"}") else None
    return int(found[1]) if found is not None else 0
