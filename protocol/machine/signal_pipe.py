"""A pipe that becomes readable with each signal: a loop that waits for descriptors wakes up for signals, too.

Handlers, and what a signal means, belong to the loop's owner.
"""

import contextlib
import os
import signal

_CHUNK = 4096


class SignalPipe:
    """The wakeup descriptor of this process's signals, from its construction until `close`."""

    def __init__(self) -> None:
        self.fileno, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def drain(self) -> None:
        """Read what has arrived, so that the descriptor is readable again only with the next signal."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self.fileno, _CHUNK)) == _CHUNK:
                pass

    def wake(self) -> None:
        """Make the descriptor readable, as a signal does."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, b"\0")

    def close(self) -> None:
        """Give the wakeup descriptor back to its owner before."""
        signal.set_wakeup_fd(self._before)
        os.close(self.fileno)
        os.close(self._write_end)
