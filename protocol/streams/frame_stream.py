"""Messages over a stream between two processes of one machine: each has a header and a body, which may be empty.

No encryption and no names: who has one end was given it by the process that has the other. Used by both sides' local links.
"""

import contextlib
import os
import select
import struct

from protocol.streams.waiting import Waiting

READ_BYTES = 64 * 1024
"""Of one call: what is left stays in the kernel, and is found by the next wait."""
MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024
"""As much as the sockets of other links accept. A stream with more in one message is closed."""
_LENGTHS = struct.Struct("<II")
"""The numbers of bytes of header and body, before both."""

Frame = tuple[bytes, bytes]
"""A header and a body."""


class FrameStream:
    """One end of a connection. Never blocks: what the kernel does not take is kept and sent when there is room."""

    def __init__(self, descriptor: int, waiting: Waiting, most_kept: int) -> None:
        """Take a descriptor over, and have a loop wait for it. Over `most_kept` bytes are not kept."""
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.is_open = True
        """False once everything was read and the other end is closed, or this one."""
        self.takes = True
        """False once nothing can be sent any more; there may still be something to be read."""
        self._waiting, self._most_kept = waiting, most_kept
        self._unsent = bytearray()
        self._begun: list[bytes] = []
        """The beginning of a message that has not come as a whole."""
        self._missing = 0
        """How many bytes have to come at least until it has."""
        waiting.add(descriptor)

    @property
    def has_unsent(self) -> bool:
        """Return whether something is kept that the kernel has not taken."""
        return bool(self._unsent)

    def send(self, header: bytes, body: bytes = b"") -> bool:
        """Send a message, or keep it until there is room; return False if neither could be done, and nothing was."""
        lengths = _LENGTHS.pack(len(header), len(body))
        if self._unsent:
            if len(self._unsent) + len(header) + len(body) > self._most_kept:
                return False
            self._unsent += lengths + header + body
            return True
        if not self.takes:
            return False
        try:
            sent = os.writev(self.descriptor, (lengths, header, body))
        except BlockingIOError:
            sent = 0
        except OSError:
            self.takes = False
            return False
        if sent < len(lengths) + len(header) + len(body):
            self._unsent += memoryview(lengths + header + body)[sent:]
            self._waiting.change(self.descriptor, select.EPOLLIN | select.EPOLLOUT)
        return True

    def flush(self) -> None:
        """Send what is kept, as far as there is room. To be called when a wait has found the descriptor ready."""
        if not self._unsent:
            return
        try:
            sent = os.write(self.descriptor, self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.takes, sent = False, len(self._unsent)
        del self._unsent[:sent]
        if not self._unsent:
            self._waiting.change(self.descriptor, select.EPOLLIN)

    def receive(self) -> list[Frame]:
        """Return the messages that have arrived, up to a bounded number of bytes. A stream that has ended is closed then."""
        if not self.is_open:
            return []
        try:
            new = os.read(self.descriptor, max(READ_BYTES, min(self._missing, MAX_BODY_BYTES)))
        except BlockingIOError:
            return []
        except OSError:
            new = b""
        if not new:
            self.close()
            return []
        if self._missing > len(new):
            self._missing -= len(new)
            self._begun.append(new)
            return []
        content = b"".join((*self._begun, new)) if self._begun else new
        return self._divide(content)

    def _divide(self, content: bytes) -> list[Frame]:
        """Return the messages in `content`, and keep what follows them."""
        frames, at, size, needed = [], 0, len(content), _LENGTHS.size
        while size - at >= _LENGTHS.size:
            header, body = _LENGTHS.unpack_from(content, at)
            if header > MAX_HEADER_BYTES or body > MAX_BODY_BYTES:
                self.close()
                break
            middle = at + _LENGTHS.size + header
            if middle + body > size:
                needed = middle + body - at
                break
            frames.append((content[at + _LENGTHS.size : middle], content[middle : middle + body]))
            at = middle + body
        self._begun, self._missing = ([content[at:]], needed - (size - at)) if at < size else ([], 0)
        return frames

    def finish(self, within_s: float) -> None:
        """Send what is kept, waiting so long at most, and close this end."""
        if self._unsent and self.is_open:
            poller = select.poll()
            poller.register(self.descriptor, select.POLLOUT)
            import time  # few streams have something left at their end

            deadline = time.monotonic() + within_s
            while self._unsent and poller.poll(max(0.0, (deadline - time.monotonic()) * 1000)):
                self.flush()
        self.close()

    def close(self) -> None:
        """Close this end; a second call does nothing. What the kernel has taken still arrives."""
        if self.is_open:
            self.is_open = self.takes = False
            self._unsent.clear()
            self._waiting.remove(self.descriptor)
            with contextlib.suppress(OSError):
                os.close(self.descriptor)
