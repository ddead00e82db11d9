"""Follows a log by byte offset: decides what to send next. Pure."""

from msgspec import Struct

from protocol.session.codec import MAX_LOG_BODY_BYTES

WINDOW_BYTES = 4 * 1024 * 1024
"""The limit of unacknowledged bytes per log. The file is the buffer for the rest."""


class SendWindow(Struct):
    """The sending state of one rank's log."""

    is_spool: bool
    sent: int = 0
    acked: int = 0
    end: int | None = None
    """The log's final size, once the rank has ended."""
    is_end_sent: bool = False
    base: int = 0
    """Bytes sent before the file was truncated: offsets on the wire only grow."""

    def next_chunk(self, size: int) -> tuple[int, int] | None:
        """Return (offset, length) to send now of a file of `size` bytes; None when none is left or allowed."""
        limit = self.base + size if self.end is None else self.end
        length = min(limit - self.sent, MAX_LOG_BODY_BYTES, WINDOW_BYTES - (self.sent - self.acked))
        if length > 0:
            return self.sent, length
        if self.end is not None and self.sent >= self.end and not self.is_end_sent:
            return self.sent, 0
        return None

    def end_at(self, size: int) -> None:
        """Note that the file will not grow any more. The report of an exit says that a log is empty: no chunk has to."""
        self.end = self.base + size
        self.is_end_sent = self.end == 0

    def note_sent(self, length: int) -> bool:
        """Count a chunk as sent; return True when it is the last one."""
        self.sent += length
        self.is_end_sent = self.end is not None and self.sent >= self.end
        return self.is_end_sent

    def acknowledge(self, offset: int) -> None:
        """Note that the controller has everything before `offset`.

        A repeated offset with more in flight requests the rest again: a chunk was lost, or the controller's
        disk refused it.
        """
        if offset == self.acked < self.sent:
            self.rewind()
        self.acked = max(self.acked, min(offset, self.sent))

    def rewind(self) -> None:
        """Continue from the last acknowledgement: the connection was lost with the bytes in flight."""
        self.sent = self.acked
        self.base = min(self.base, self.sent)
        self.is_end_sent = False

    def start_anew(self) -> None:
        """Continue with the beginning of the file: it was truncated."""
        self.base = self.sent

    def move(self, offset: int) -> None:
        """Continue at `offset`, as a watcher wants."""
        self.sent = self.acked = offset
        self.base = 0
        self.is_end_sent = False

    @property
    def is_delivered(self) -> bool:
        """Return whether the controller has every byte of an ended rank's log."""
        return self.end is not None and self.acked >= self.end and self.is_end_sent
