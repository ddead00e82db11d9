"""Reads a log at its reader's pace. Each consumer (the console, a viewer) has a cursor per log it shows.

A cursor that keeps up gets the chunks as they arrive. One that has fallen behind reads from the file instead,
so a slow reader costs no memory. One that may skip jumps ahead when it is too far behind, and counts the
lines.
"""

import os
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from protocol.ids import AttemptId, RankId
from protocol.text.ansi import printable_line
from sflow_ctl.runtime.logs.line_index import BLOCK_BYTES
from sflow_ctl.runtime.logs.store import RankLog

SKIP_BEYOND_BYTES = 4 * 1024 * 1024
"""A person cannot have read output so far back; from here on they are shown the end instead."""
KEEP_BYTES = 64 * 1024
"""How much of the end is shown after a skip."""
COUNT_BYTES = 2 * 1024 * 1024
"""Skipped bytes whose lines are counted in one step: about a millisecond."""
TAIL_BLOCK_BYTES = 64 * 1024
MAX_TAIL_BYTES = 4 * 1024 * 1024
"""How far back the last lines are looked for."""
LINES_BYTES = 1024 * 1024
"""The limit of the last lines that are shown together."""


class LogSlice(NamedTuple):
    """The next bytes of a log, after `skipped_lines` that were left out before them."""

    offset: int
    data: bytes
    skipped_lines: int = 0


class Cursor(Struct, eq=False):
    """A reader's position in a log: everything before `offset` has been shown or skipped."""

    log: RankLog
    offset: int = 0
    may_skip: bool = False
    _descriptor: int = -1
    _is_skipping: bool = False
    _skipped_lines: int = 0

    @property
    def is_at_end(self) -> bool:
        """Return whether it has all known bytes of the log."""
        return self.offset >= self.log.position

    def take(self, offset: int, body: memoryview) -> memoryview | None:
        """Return the new part of a chunk if the cursor is right before it; None if it must read from the file."""
        cut = self.offset - offset
        if cut < 0 or cut > len(body) or self._is_skipping:
            return None
        self.offset = offset + len(body)
        return body[cut:]

    def read(self, limit: int) -> LogSlice | None:
        """Return the next bytes from the file, at most about `limit`.

        A slice without data means: call again, soon. None means that nothing can be read now, either because
        the cursor is at the end, or because another node's bytes are not visible here yet (NFS); then
        `is_at_end` is false.

        Raises: OSError when the file cannot be read.
        """
        behind = self.log.position - self.offset
        if behind <= 0:
            self.close()
            return None
        if self.may_skip and (self._is_skipping or behind > SKIP_BEYOND_BYTES):
            return self._skip()
        data = self._read_at(self.offset, min(limit, behind))
        if not data:
            return None
        piece = LogSlice(self.offset, data)
        self.offset += len(data)
        if self.is_at_end:
            self.close()
        return piece

    def seek_to_last_lines(self, lines: int) -> None:
        """Move to before the last `lines` lines that are known now, at most `MAX_TAIL_BYTES` back."""
        end = self.log.position
        if lines == 0:
            self.offset = end
            return
        lowest = max(0, end - MAX_TAIL_BYTES)
        start, needed = end, lines + 1  # the newline before the first line wanted
        while start > lowest:
            begin = max(lowest, start - TAIL_BLOCK_BYTES)
            block = self._read_at(begin, start - begin)
            if start == end and not block.endswith(b"\n"):
                needed -= 1  # an unfinished last line counts as one
            at = len(block)
            while needed and at >= 0:
                at = block.rfind(b"\n", 0, at)
                if at >= 0:
                    needed -= 1
            if not needed:
                self.offset = begin + at + 1
                return
            start = begin
        self.offset = lowest

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _skip(self) -> LogSlice | None:
        self._is_skipping = True
        target = self.log.position - KEEP_BYTES
        target -= target % BLOCK_BYTES
        if self.offset < target:
            return self._skip_blocks(target)
        data = self._read_at(self.offset, KEEP_BYTES * 2)
        if not data:
            return None
        start = data.find(b"\n") + 1  # 0 in the middle of an endless line: show the part that exists
        piece = LogSlice(self.offset + start, data[start:], self._skipped_lines + (start > 0))
        self.offset += len(data)
        self._is_skipping, self._skipped_lines = False, 0
        return piece

    def _skip_blocks(self, target: int) -> LogSlice | None:
        """Move towards the end of the block before the target, and count the lines: of whole blocks once for all readers."""
        before = self.offset
        most = min(target, before - before % BLOCK_BYTES + COUNT_BYTES)
        can_read = True
        while can_read and self.offset < most and not self._is_counted():
            can_read = self._add_lines(BLOCK_BYTES - self.offset % BLOCK_BYTES)
        if can_read and self.offset < most:
            self._skip_counted(most // BLOCK_BYTES, target // BLOCK_BYTES)
        return LogSlice(self.offset, b"") if self.offset > before else None

    def _is_counted(self) -> bool:
        """Return whether lines from here on are counted for all readers; those before are this reader's alone."""
        block, begin = divmod(self.offset, BLOCK_BYTES)
        if not begin:
            self.log.lines.begin_at(block)
        return not begin and block >= self.log.lines.first

    def _skip_counted(self, most: int, last: int) -> None:
        """Count blocks up to `most`, and move to the last one that is counted, `last` at the most."""
        index = self.log.lines
        while index.end < most:
            lines = self._count(index.end * BLOCK_BYTES, BLOCK_BYTES)
            if lines is None:
                break
            index.add(lines)
        reached = min(last, index.end)
        self._skipped_lines += index.between(self.offset // BLOCK_BYTES, reached)
        self.offset = reached * BLOCK_BYTES

    def _add_lines(self, size: int) -> bool:
        """Move over the next bytes and count their lines; return False if they cannot be read."""
        lines = self._count(self.offset, size)
        if lines is not None:
            self._skipped_lines += lines
            self.offset += size
        return lines is not None

    def _count(self, offset: int, size: int) -> int | None:
        """Return how many lines there are in these bytes; None if they cannot be read to their end now."""
        data = self._read_at(offset, size)
        return data.count(b"\n") if len(data) == size else None

    def _read_at(self, offset: int, size: int) -> bytes:
        if self._descriptor < 0:
            self._descriptor = os.open(self.log.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        data = os.pread(self._descriptor, size, offset)
        if not data and size:
            # Network file systems read a file's size again when it is opened (close-to-open, nfs(5)).
            # Through /proc it is the same file even when it has been renamed.
            fresh = os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            self.close()
            self._descriptor = fresh
            data = os.pread(self._descriptor, size, offset)
        return data


def file_log(path: Path, task: str, attempt: int = 1) -> RankLog:
    """Return a log known only by its file. `position` is its size now. Raises: OSError if it does not exist."""
    return RankLog(RankId(AttemptId(task, attempt), 0), path, position=path.stat().st_size)


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log, as text that is safe on any terminal; empty when it cannot be read."""
    try:
        cursor = Cursor(file_log(path, "log"))
        cursor.seek_to_last_lines(count)
        data = b""
        while len(data) < LINES_BYTES and (piece := cursor.read(LINES_BYTES)) is not None:
            data += piece.data
        cursor.close()
    except OSError:
        return []
    lines = data.decode(errors="replace").rstrip("\n").split("\n") if data else []
    return list(map(printable_line, lines[-count:]))
