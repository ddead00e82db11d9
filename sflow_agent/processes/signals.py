"""Notices signals and the guardian's death: ended children, requests to end.

Handlers only set a flag; the loop's pass does the rest. Tasks get default handlers: `spawn` ensures that.
"""

import os
import select
import signal
from collections.abc import Callable, Sequence
from types import FrameType

from protocol.machine.loop_signals import SignalPipe
from protocol.machine.procfs import is_being_killed, is_living, parent_of
from sflow_agent.core.events import AgentEvent, EndRequested, TerminationSeen
from sflow_agent.descriptors import Descriptors
from sflow_agent.processes.syscalls import open_pidfd

GUARDIAN_GONE = "the agent's guardian is gone"
CONTROLLER_GONE = "the controller has died"
LOOK_EVERY_S = 0.5
KILLED_GRACE_S = 0.5
"""Between SIGTERM and SIGKILL when a run was killed as a whole: it has to be gone as soon as its user sees it gone."""


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
        self._supervisor: int | None = None
        """Starts another controller when that one is killed."""
        self._watched: set[int] = set()
        """Of the two, those that are watched by a descriptor."""
        self.on_controller_lost: Callable[[float], None] = lambda _now: None
        """Called when the controller was killed, and another one is about to take the run over."""
        self._is_controller_lost = False
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

    def watch_controller(self, pid: int, supervisor: int | None) -> None:
        """End when both have died: the controller, which runs on this machine, and the supervisor that replaces it.

        Called again with the controller that has taken over.
        """
        self._supervisor = supervisor
        if pid == self._controller:
            return
        self._controller = pid
        self._watch(pid)
        if supervisor is not None:
            self._watch(supervisor)

    def controller_lives(self) -> bool:
        """Return whether a controller on this machine lives, stopped or not, or will be replaced; False where none is watched."""
        return self._controller is not None and (
            self._is_controller(self._controller) or self._is_supervised()
        )

    def _is_controller(self, pid: int) -> bool:
        """Return whether this pid is the controller's: the guardian is its child, or came with it to their supervisor."""
        is_its_own = parent_of(self._guardian) in (pid, parent_of(pid))
        return is_its_own and is_living(pid) and not is_being_killed(pid)

    def _is_supervised(self) -> bool:
        """Return whether the supervisor lives: the guardian comes to it when the controller dies."""
        supervisor = self._supervisor
        if supervisor is None or not is_living(supervisor) or is_being_killed(supervisor):
            return False
        parent = parent_of(self._guardian)
        return parent == supervisor or (parent == self._controller and parent_of(parent) == supervisor)

    def _watch(self, pid: int) -> None:
        """Look at both when this process ends."""
        if pid in self._watched:
            return
        try:
            descriptor = open_pidfd(pid)
        except ProcessLookupError:
            self._look_at_controller()
            return
        if descriptor is None:
            self._next_look = 0.0
            return
        self._watched.add(pid)

        def has_died() -> None:
            self._descriptors.remove(descriptor)
            self._watched.discard(pid)
            self._look_at_controller()

        self._descriptors.add(descriptor, select.EPOLLIN, has_died)

    def _look_at_controller(self) -> None:
        controller = self._controller
        if controller is None or self._is_controller(controller):
            return
        if self._is_supervised():
            self._is_controller_lost = True
        else:
            self._controller = None
            self._reasons.append(CONTROLLER_GONE)

    def next_wakeup(self) -> float | None:
        """Return 0 while there is a request."""
        has_news = self._reasons or self._is_terminated or self._is_controller_lost
        return 0.0 if has_news else self._next_look

    def poll(self, now: float) -> Sequence[AgentEvent]:
        """Return the requests to end since the last call."""
        if self._next_look is not None and now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            if os.getppid() != self._guardian:
                self._next_look = None
                self._reasons.append(GUARDIAN_GONE)
            else:
                self._look_at_controller()
        reasons, self._reasons = self._reasons, []
        events: list[AgentEvent] = [
            EndRequested(reason, KILLED_GRACE_S) if reason == CONTROLLER_GONE else EndRequested(reason)
            for reason in reasons
        ]
        if self._is_controller_lost:
            self._is_controller_lost = False
            self.on_controller_lost(now)
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
