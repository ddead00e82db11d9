"""Following a log by byte offset: what to send next. Pure."""

from dataclasses import dataclass

from protocol.session.codec import MAX_LOG_BODY_BYTES

WINDOW_BYTES = 4 * 1024 * 1024
"""Sent and not acknowledged, per log. The file is the buffer for the rest."""


@dataclass(slots=True)
class SendWindow:
    """One rank's log on its way to the controller."""

    is_spool: bool
    sent: int = 0
    acked: int = 0
    end: int | None = None
    """The log's final size, once the rank has ended."""
    is_end_sent: bool = False
    base: int = 0
    """What was sent before the file was truncated: offsets on the wire only grow."""

    def next_chunk(self, size: int) -> tuple[int, int] | None:
        """(offset, length) to send now of a file of `size` bytes; None when there is nothing or no room."""
        limit = self.base + size if self.end is None else self.end
        length = min(limit - self.sent, MAX_LOG_BODY_BYTES, WINDOW_BYTES - (self.sent - self.acked))
        if length > 0:
            return self.sent, length
        if self.end is not None and self.sent >= self.end and not self.is_end_sent:
            return self.sent, 0
        return None

    def note_sent(self, length: int) -> bool:
        """Counts a chunk as sent; True when it is the last one."""
        self.sent += length
        self.is_end_sent = self.end is not None and self.sent >= self.end
        return self.is_end_sent

    def acknowledge(self, offset: int) -> None:
        """The controller has everything before `offset`.

        Said twice with more in flight, it asks for the rest again: a chunk was lost, or its disk refused it.
        """
        if offset == self.acked < self.sent:
            self.rewind()
        self.acked = max(self.acked, min(offset, self.sent))

    def rewind(self) -> None:
        """The connection was lost with what was in flight: goes on from what was acknowledged."""
        self.sent = self.acked
        self.base = min(self.base, self.sent)
        self.is_end_sent = False

    def start_anew(self) -> None:
        """Go on with the beginning of the file: it was truncated."""
        self.base = self.sent

    def move(self, offset: int) -> None:
        """A watcher wants the log from `offset` on."""
        self.sent = self.acked = offset
        self.base = 0
        self.is_end_sent = False

    @property
    def is_delivered(self) -> bool:
        """True when the controller has every byte of an ended rank's log."""
        return self.end is not None and self.acked >= self.end and self.is_end_sent
