"""Notices signals and the guardian's death: ended children, requests to end.

Handlers only set a flag; the loop's pass does the rest. Tasks get default handlers: `spawn` ensures that.
"""

import os
import select
import signal
from collections.abc import Callable, Sequence
from types import FrameType

from protocol.machine.procfs import is_living, parent_of
from protocol.machine.signal_pipe import SignalPipe
from sflow_agent.core.events import AgentEvent, EndRequested, TerminationSeen
from sflow_agent.descriptors import Descriptors
from sflow_agent.processes.syscalls import open_pidfd

GUARDIAN_GONE = "the agent's guardian is gone"
CONTROLLER_GONE = "the controller has died"
LOOK_EVERY_S = 0.5


class Signals:
    """A source of the loop: requests to end.

    `has_child_ended` is for the owner of the processes, who resets it.
    """

    def __init__(self, descriptors: Descriptors, guardian: int) -> None:
        """`guardian` is the parent's pid. Raises: ProcessLookupError when that has died."""
        self.has_child_ended = True
        """True at first: a child may have ended before there was a handler."""
        self._reasons: list[str] = []
        self._is_terminated = False
        self.on_terminated: Callable[[float], None] = lambda _now: None
        self._descriptors = descriptors
        self._guardian = guardian
        self._next_look: float | None = None
        """When to check the guardian, on kernels without pidfd."""
        self._controller: int | None = None
        self._watch_guardian(guardian)

    def install(self) -> None:
        """Handle this process's signals from here on."""
        pipe = SignalPipe()
        self._descriptors.add(pipe.fileno, select.EPOLLIN, pipe.drain)
        signal.signal(signal.SIGCHLD, self._on_child)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (
            signal.SIGHUP,
            signal.SIGUSR1,
            signal.SIGUSR2,
        ):  # `sbatch --signal` sends them to whole steps
            signal.signal(number, signal.SIG_IGN)

    def watch_controller(self, pid: int) -> None:
        """End when the controller dies, which runs on this machine and has started the guardian."""
        self._controller = pid
        if not self.controller_lives():
            self._reasons.append(CONTROLLER_GONE)
            return
        descriptor = open_pidfd(pid)
        if descriptor is None:
            self._next_look = 0.0
            return

        def has_died() -> None:
            self._descriptors.remove(descriptor)
            self._reasons.append(CONTROLLER_GONE)

        self._descriptors.add(descriptor, select.EPOLLIN, has_died)

    def controller_lives(self) -> bool:
        """Return whether a controller on this machine lives, stopped or not; False where none is watched."""
        return (
            self._controller is not None
            and parent_of(self._guardian) == self._controller
            and is_living(self._controller)
        )

    def next_wakeup(self) -> float | None:
        """Return 0 while there is a request."""
        return 0.0 if self._reasons or self._is_terminated else self._next_look

    def poll(self, now: float) -> Sequence[AgentEvent]:
        """Return the requests to end since the last call."""
        if self._next_look is not None and now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            if os.getppid() != self._guardian:
                self._next_look = None
                self._reasons.append(GUARDIAN_GONE)
            elif self._controller is not None and not self.controller_lives():
                self._next_look = None
                self._reasons.append(CONTROLLER_GONE)
        reasons, self._reasons = self._reasons, []
        events: list[AgentEvent] = [EndRequested(reason) for reason in reasons]
        if self._is_terminated:
            self._is_terminated = False
            events.append(TerminationSeen())
            self.on_terminated(now)
        return events

    def _on_child(self, _number: int, _frame: FrameType | None) -> None:
        self.has_child_ended = True

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._is_terminated = True

    def _watch_guardian(self, guardian: int) -> None:
        if os.getppid() != guardian:
            raise ProcessLookupError("the guardian has died")
        descriptor = open_pidfd(guardian)
        if descriptor is None:
            self._next_look = 0.0
            return

        def has_died() -> None:
            self._descriptors.remove(descriptor)
            self._reasons.append(GUARDIAN_GONE)

        self._descriptors.add(descriptor, select.EPOLLIN, has_died)
