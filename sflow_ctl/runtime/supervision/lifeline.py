"""The controller's end of what connects it with its supervisor: signals, descriptors to be kept, and each other's death.

A signal to the user's pid comes from the supervisor, by a number of its own; a terminal and Slurm signal this process as well.
So each kind is counted, and the larger count is how often the user meant it. `runtime/run/signals.py` installs handlers
through here, where there is a supervisor or not.
"""

import _socket
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from sflow_ctl.runtime.supervision.supervisor import (
    BLOCKED,
    FINISHED,
    FIRST,
    FORWARDED,
    KEEP,
    MAX_TEXT_BYTES,
    STOPS_A_RUN,
    SUPERVISOR_DIED,
    Birth,
    Death,
)

Handler = Callable[[int, FrameType | None], object]
Handlers = dict[int, "signal._HANDLER"]


class Lifeline:
    """The connection of this process with its supervisor."""

    def __init__(self, birth: Birth) -> None:
        """Handle signals as a program does that does nothing about them, from here on."""
        self.supervisor = birth.supervisor
        self.death: Death | None = birth.death
        """Of the controller before; what it had kept is this one's to take over."""
        self._socket = birth.socket
        self._ends = dict(birth.death.ends if birth.death is not None else ())
        self._arrivals: dict[int, SignalArrivals] = {number: SignalArrivals() for number in FORWARDED}
        handle_with(_end_by_default, self)
        os.set_blocking(self.fileno, False)
        fcntl.fcntl(self.fileno, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self.fileno, fcntl.F_SETSIG, SUPERVISOR_DIED)
        fcntl.fcntl(self.fileno, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        # One that takes over is stopped when it knows what to stop: `release_signals`.
        held = STOPS_A_RUN if birth.death is not None else ()
        signal.pthread_sigmask(signal.SIG_SETMASK, {*birth.mask, *held})

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when the supervisor has said something, or has died."""
        return self._socket.fileno()

    @property
    def is_supervised(self) -> bool:
        """Return whether the supervisor lives: one that is dying closes its socket before it stops being the parent."""
        return os.getppid() == self.supervisor and not self._has_hung_up

    @property
    def _has_hung_up(self) -> bool:
        from select import POLLERR, POLLHUP, POLLIN, poll  # only when there is something to find out

        poller = poll()
        poller.register(self.fileno, POLLIN)
        return any(events & (POLLHUP | POLLERR) for _, events in poller.poll(0))

    def keep(self, descriptors: "tuple[int, ...]") -> None:
        """Give copies of descriptors to the supervisor, in place of earlier ones: the next controller gets them."""
        numbers = b"".join(one.to_bytes(4, sys.byteorder) for one in descriptors)
        with contextlib.suppress(OSError):  # it has died, which its signal says
            self._socket.sendmsg([KEEP], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])

    def finish(self) -> None:
        """Say that the run has ended: no other controller has anything to do."""
        with contextlib.suppress(OSError):
            self._socket.send(FINISHED)

    def end_blocked(self, status: int, text: str) -> None:
        """Have the supervisor say this, and end with this status whether this process can be ended or not."""
        with contextlib.suppress(OSError):
            self._socket.send(b"%s%d %s" % (BLOCKED, status, text.encode()[:MAX_TEXT_BYTES]))

    def take_end(self, pid: int) -> int | None:
        """Return how a child of an earlier controller has ended (an exit status, negative for a signal), once; else None."""
        with contextlib.suppress(OSError):
            while said := self._socket.recv(64):
                ended, status = said.split()
                self._ends[int(ended)] = int(status)
        return self._ends.pop(pid, None)

    def is_news(self, number: int, is_forwarded: bool) -> bool:
        """Count a signal; return whether it was sent once more, and not only to both processes."""
        return self._arrivals[number].is_news(is_forwarded)


class SignalArrivals:
    """How often a signal came directly, how often from the supervisor, and how often it was sent as far as that is known."""

    def __init__(self) -> None:
        self._came = [0, 0]
        self._sent = 0

    def is_news(self, is_forwarded: bool) -> bool:
        """Count one that came; return whether it is one more than was known.

        The other one's handler may run in the middle of this, wherever a function is called: none is.
        """
        came = self._came
        came[is_forwarded] += 1
        if came[is_forwarded] <= self._sent:
            return False
        self._sent += 1
        return True


_lifeline: Lifeline | None = None


def begin(birth: Birth) -> None:
    """Connect this process, which is a controller's, with its supervisor."""
    global _lifeline
    _lifeline = Lifeline(birth)


def lifeline() -> Lifeline | None:
    """Return the connection with the supervisor; None for a process that has none."""
    return _lifeline


def handle_with(handler: Handler, line: Lifeline | None = None) -> Handlers:
    """Have `handler` called for each signal that stops a run; return the handlers before, by signal.

    It is called with `SUPERVISOR_DIED` when the supervisor was killed. SIGHUP stays ignored under nohup.
    """
    line = line or _lifeline
    before: Handlers = {}
    for index, number in enumerate(FORWARDED):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue
        if line is None:
            before[number] = signal.signal(number, handler)
            continue
        before[number] = signal.signal(number, _counted(line, handler, number, is_forwarded=False))
        forwarded = FIRST + index
        before[forwarded] = signal.signal(forwarded, _counted(line, handler, number, is_forwarded=True))
    if line is not None:
        before[SUPERVISOR_DIED] = signal.signal(SUPERVISOR_DIED, _on_socket(line, handler))
    return before


def restore(handlers: Handlers) -> None:
    """Install the handlers that `handle_with` has returned."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def hold_signals() -> None:
    """Keep the signals that stop a run until `release_signals`: a run is being taken over that can be stopped then."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS_A_RUN)


def release_signals() -> None:
    """Let the signals through that `hold_signals` has held back, if it has."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS_A_RUN)


def _counted(line: Lifeline, handler: Handler, number: int, *, is_forwarded: bool) -> Handler:
    def on_signal(_number: int, frame: FrameType | None) -> None:
        if line.is_news(number, is_forwarded):
            handler(number, frame)

    return on_signal


def _on_socket(line: Lifeline, handler: Handler) -> Handler:
    """Return the handler of a signal that says that the supervisor has died, or only that it has said something."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if not line.is_supervised:
            handler(number, frame)

    return on_signal


def _end_by_default(number: int, _frame: FrameType | None) -> None:
    """Do what a signal does to a program that does nothing about it."""
    if number == signal.SIGINT:
        os._exit(128 + number)  # no exception: callbacks of the import system, and msgspec, ignore some
    if number == SUPERVISOR_DIED:
        number = signal.SIGTERM
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)
