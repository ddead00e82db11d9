"""Signals that stop a run: before it begins, as a descriptor that the controller's loop polls, and while it ends.

The loop decides what a signal means. Called by `cli/execution.py`, `controller.py` and `workflow.py`.
"""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from protocol.errors import ExitStatus
from protocol.machine.loop_signals import SignalPipe
from protocol.text.signal_names import signal_name
from sflow_ctl.runtime.supervision.lifeline import Handlers, handle_with, release_signals, restore
from sflow_ctl.runtime.supervision.supervisor import FIRST, FORWARDED, STOPS_A_RUN, SUPERVISOR_DIED

KILLED_SUPERVISOR = "the death of the process that was started"
"""Where a run is stopped because its supervisor was killed."""

_EARLY: dict[int, ExitStatus] = {
    signal.SIGINT: ExitStatus.INTERRUPTED,
    signal.SIGTERM: ExitStatus.TERMINATED,
    signal.SIGHUP: ExitStatus.HANGUP,
    SUPERVISOR_DIED: ExitStatus.TERMINATED,
}
"""Exit statuses. The other signals announce the end of the job's time."""


def stop_name(number: int) -> str:
    """Return how a signal that stops a run is called."""
    return KILLED_SUPERVISOR if number == SUPERVISOR_DIED else signal_name(number)


def stop_text(name: str, *, is_again: bool) -> str:
    """Return what a signal does that the loop has received."""
    return f"{name} again: killing what is left" if is_again else f"{name} received, stopping"


def meant_by(number: int) -> int:
    """Return the signal that the user meant by one that the supervisor may have sent in its place."""
    return FORWARDED[number - FIRST] if FIRST <= number < FIRST + len(FORWARDED) else number


def stop_status(number: int) -> ExitStatus:
    """Return the exit status of a run that such a signal ends before anything else does."""
    return _EARLY.get(number, ExitStatus.TIME_LIMIT)


class _Patience:
    """Lets one signal pass at the end of a run: what waits there may wait for something that never answers."""

    def __init__(self) -> None:
        self._is_lost = False

    def lose(self) -> None:
        """Take note of a signal. Raises: KeyboardInterrupt for the second one."""
        if self._is_lost:
            raise KeyboardInterrupt
        self._is_lost = True


_EARLY_STOPS: list[int] = []
"""Signals that have stopped this process's run before it began."""


class SignalInbox:
    """Collects the signals of this process while it is entered: for the loop, and once that is over for `hurries`.

    It keeps the signals when it is left without an error: the run is over, and the process ends.
    """

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._came: list[int] = []
        self._pipe: SignalPipe | None = None
        self._old_handlers: Handlers = {}
        self._hurry: Callable[[], object] | None = None
        self.is_hurried = False
        """A signal has come that the loop has not taken."""

    def __enter__(self) -> Self:
        if _EARLY_STOPS:
            raise StoppedEarlyError(_EARLY_STOPS[0])  # it was raised before, where exceptions are ignored
        self._pipe = SignalPipe()
        self._old_handlers = handle_with(self._on_signal)
        release_signals()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._hurry = _Patience().lose  # the run is over: one signal more must not change its exit status
        else:
            restore(self._old_handlers)
        assert self._pipe is not None
        pipe, self._pipe = self._pipe, None
        pipe.close()

    @property
    def fileno(self) -> int:
        """Return the descriptor that becomes readable with a signal."""
        assert self._pipe is not None
        return self._pipe.fileno

    def take(self) -> list[int]:
        """Return the signals received since the last call, in order."""
        assert self._pipe is not None
        self._pipe.drain()
        numbers = []
        while self._pending:  # a handler may append meanwhile
            numbers.append(self._pending.pop(0))
        return numbers

    def hurries(self, hurry: Callable[[], object]) -> None:
        """Have each signal call `hurry` from now on, also one that the loop has left."""
        self._hurry = hurry
        if self._pending:
            self._hurried(hurry)

    def collect(self) -> list[int]:
        """Take in the signals for a loop that stands still, and wake it up; return all that have come so far, in order.

        For a thread that blocks all signals: the kernel keeps them for the loop's thread, which does not see them.
        """
        while (info := signal.sigtimedwait(STOPS_A_RUN, 0)) is not None:
            handler = signal.getsignal(info.si_signo)
            if callable(handler):
                handler(info.si_signo, None)
            if self._pipe is not None:
                self._pipe.wake()
        return [*self._unhandled(), *self._came]

    def _unhandled(self) -> list[int]:
        """Return the signals that this process has, and whose handler waits for the loop to execute code."""
        if self._pipe is None:
            return []
        meant = dict.fromkeys(map(meant_by, self._pipe.noted()))
        return [number for number in meant if number in FORWARDED and number not in self._came]

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._pending.append(number)
        self._came.append(number)
        if self._hurry is not None:
            self._hurried(self._hurry)

    def _hurried(self, hurry: Callable[[], object]) -> None:
        self.is_hurried = True
        hurry()


class _Handled:
    """A context in which `_on_signal` handles the signals that stop a run; it leaves the handlers as it found them."""

    def __init__(self) -> None:
        self._old_handlers: Handlers = {}

    def __enter__(self) -> Self:
        self._old_handlers = handle_with(self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        restore(self._old_handlers)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        raise NotImplementedError


class ReportSignals(_Handled):
    """Lets one signal pass while the report of an ended run is printed: an impatient key press must not cost the cause.

    The next one raises KeyboardInterrupt: what the report is printed to may accept nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._patience = _Patience()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._patience.lose()


class StoppedEarlyError(BaseException):
    """A signal has stopped a run before its first task. Like `KeyboardInterrupt`, only the edge of the program catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(stop_name(number))
        self.status = stop_status(number)


class EarlySignals(_Handled):
    """Lets the first signal unwind what prepares a run, so that nothing of it is left; further ones do not cut that off.

    What it raises is lost in callbacks whose exceptions Python ignores, which imports have; a `SignalInbox` raises it again.
    One that is entered meanwhile takes the signals for as long as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_stopped = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, StoppedEarlyError):  # else the program ends, and cleans up on its way
            super().__exit__(kind, error, traceback)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            _EARLY_STOPS.append(number)
            raise StoppedEarlyError(number)
