"""Takes the requests of operators for the controller's loop, and gives the answers back by the way each came.

Requests arrive in the output thread, which has the clients socket, and in the thread for request files. What they lead to
leaves in the loop's order: the journal first, then orders to agents, then the answer. Used by `run/controller.py`.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from sflow_ctl.core.commands import AnswerRequest
from sflow_ctl.core.events import OperatorRequest
from sflow_ctl.core.requests import RequestAnswer
from sflow_ctl.runtime.viewing.messages import (
    Answered,
    Ask,
    ToOperatorMessage,
    ViewerRefused,
    encode,
)

MAX_WAITING = 256
"""Requests that have arrived and are not answered; further ones are refused."""
Reply = Callable[[ToOperatorMessage], object]
"""Gives a message to the client that asked; callable from any thread, and never waits."""


class RequestDesk:
    """The requests of one run that are not answered yet."""

    def __init__(self) -> None:
        self._arrived: deque[tuple[Ask, Reply]] = deque()
        self._asked: dict[str, list[Reply]] = {}
        """By request: the ways on which its answer is awaited."""
        self._decided: list[AnswerRequest] = []
        self._outgoing: deque[tuple[bytes, bytes]] = deque()
        self.fileno = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when requests have arrived."""
        self.wake_sender: Callable[[], object] = lambda: None
        """Has the output thread send what is outgoing."""
        self.why_not: Callable[[Ask], str] = lambda _ask: ""
        """Says why a request cannot be judged, as a sentence: it never becomes an event then."""

    # ------------------------------------------------------------------ from any thread

    def take(self, ask: Ask, reply: Reply) -> None:
        """Take a request of an operator."""
        if len(self._arrived) >= MAX_WAITING:
            reply(ViewerRefused(code="too-many-requests", reason=f"{MAX_WAITING} requests wait already"))
            return
        self._arrived.append((ask, reply))
        with suppress(BlockingIOError):
            os.eventfd_write(self.fileno, 1)

    def take_from_socket(self, routing_id: bytes, ask: Ask, *, is_operator: bool) -> None:
        """Take a request that has come over the socket, of someone who may change the run or not."""

        def reply(message: ToOperatorMessage) -> None:
            self._outgoing.append((routing_id, encode(message)))

        if is_operator:
            self.take(ask, reply)
        else:
            reply(ViewerRefused(code="read-only", reason="this key may look at the run, and not change it"))

    def refuse_unreadable(self, routing_id: bytes) -> None:
        """Say to an operator that its message means nothing here."""
        reason = "the controller does not understand the request: it is of another version of sflow-ctl"
        self._outgoing.append((routing_id, encode(ViewerRefused(code="unreadable", reason=reason))))

    def outgoing(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the messages to be sent over the socket, with the peers that they are for."""
        while self._outgoing:
            yield self._outgoing.popleft()

    # ------------------------------------------------------------------ from the loop

    def arrived(self) -> list[OperatorRequest]:
        """Return the requests that have arrived since the last call, as events."""
        if not self._arrived:
            return []
        with suppress(BlockingIOError):
            os.eventfd_read(self.fileno)
        events = []
        while self._arrived:
            ask, reply = self._arrived.popleft()
            if problem := self.why_not(ask):
                reply(Answered(id=ask.id, answer=RequestAnswer(error=problem)))
                self.wake_sender()
                continue
            self._asked.setdefault(ask.id, []).append(reply)
            events.append(OperatorRequest(id=ask.id, by=ask.by, action=ask.action))
        return events

    def answer(self, command: AnswerRequest) -> None:
        """Give this answer with the next `send`."""
        self._decided.append(command)

    def send(self) -> None:
        """Give the answers; called when what follows from the requests is recorded."""
        if not self._decided:
            return
        for command in self._decided:
            for reply in self._asked.pop(command.id, ()):
                reply(Answered(id=command.id, answer=command.answer))
        self._decided.clear()
        self.wake_sender()

    def give_up(self) -> None:
        """Answer what is left: the run has ended."""
        for request in self.arrived():
            self._decided_at_end(request.id)
        for request_id in list(self._asked):
            self._decided_at_end(request_id)

    def _decided_at_end(self, request_id: str) -> None:
        for reply in self._asked.pop(request_id, ()):
            reply(Answered(id=request_id, answer=RequestAnswer(error="the run has ended")))
