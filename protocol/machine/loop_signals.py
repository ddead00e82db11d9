"""Signals of a process that has a loop: a pipe that becomes readable with each, and threads that leave them to the loop's thread.

Handlers, and what a signal means, belong to the loop's owner.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

_CHUNK = 4096


class SignalPipe:
    """The wakeup descriptor of this process's signals, from its construction until `close`."""

    def __init__(self) -> None:
        self.fileno, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def drain(self) -> None:
        """Read what has arrived, so that the descriptor is readable again only with the next signal."""
        try:
            while len(os.read(self.fileno, _CHUNK)) == _CHUNK:
                pass
        except BlockingIOError:
            pass

    def noted(self) -> bytes:
        """Return the numbers of what has arrived since `drain`, 0 for `wake`, and leave them there: for other threads.

        The number of a signal is there as soon as the process has it. Its handler may have to wait: Python calls that between
        two of its instructions, and one of them may make several system calls, each of which may wait for a file.
        """
        try:
            numbers = os.read(self.fileno, _CHUNK)
        except BlockingIOError:
            return b""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, numbers)
        return numbers

    def wake(self) -> None:
        """Make the descriptor readable, as a signal does."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, b"\0")

    def close(self) -> None:
        """Give the wakeup descriptor back to its owner before."""
        signal.set_wakeup_fd(self._before)
        os.close(self.fileno)
        os.close(self._write_end)


class QuietThread(threading.Thread):
    """A thread that gets no signals. The process may end before it does.

    Python runs handlers in the main thread alone. A signal that the kernel gives to another thread waits for the main thread
    to execute code again, and nothing but that thread sees it: lost, for as long as the main thread waits for a file.
    """

    def __init__(self, work: Callable[..., object], name: str, args: tuple[object, ...] = ()) -> None:
        super().__init__(target=work, name=name, args=args, daemon=True)

    def start(self) -> None:
        """Begin. Raises: RuntimeError when there can be no more threads."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            super().start()  # it inherits the mask
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def signals_for_children() -> Iterator[None]:
    """Let a process that is started within get signals: it would inherit a `QuietThread`'s mask. Any thread may call this."""
    if not isinstance(threading.current_thread(), QuietThread):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
