"""Reads a file that another process appends to, perhaps on another node."""

import os

PER_READ = 1 << 20


class FollowedFile:
    """A file from its beginning, which need not exist yet."""

    def __init__(self, path: str) -> None:
        self._path, self._offset = path, 0

    def read(self) -> bytes:
        """Return what was appended since the last call, up to a bounded number of bytes; all of it if it was truncated."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            if os.fstat(descriptor).st_size < self._offset:
                self._offset = 0
            pieces = []
            while piece := os.pread(descriptor, PER_READ, self._offset):
                pieces.append(piece)
                self._offset += len(piece)
                if len(pieces) >= 16:
                    break
            return b"".join(pieces)
        finally:
            os.close(descriptor)
