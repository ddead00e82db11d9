"""What was measured on its way to the controller: few messages at a time, and a limited number that waits. Pure."""

from collections import deque

from msgspec import Struct, field

from protocol.messages.facts import Measured
from protocol.messages.telemetry import MarkedWindow

MAX_IN_FLIGHT = 4
"""Messages without an answer."""
MAX_WAITING = 120
"""Whole blocks kept while the controller is late, two hours of them; the oldest are dropped and counted."""
MAX_WINDOWS = 10_000


class Outbox(Struct):
    """The messages of one agent."""

    agent_incarnation: int = 0
    number: int = 0
    taken: int = 0
    dropped: int = 0
    _waiting: deque[bytes] = field(default_factory=deque)
    _windows: list[MarkedWindow] = field(default_factory=list)

    @property
    def is_free(self) -> bool:
        """Return whether rows that are not a whole block yet may be sent: nothing is late."""
        return not self._waiting and self.number - self.taken < MAX_IN_FLIGHT

    def note_taken(self, number: int) -> None:
        """Note that the controller has taken the message of this number and those before."""
        self.taken = max(self.taken, min(number, self.number))

    def add_windows(self, windows: list[MarkedWindow]) -> None:
        """Let windows be sent with the next message."""
        self._windows += windows[: MAX_WINDOWS - len(self._windows)]

    def add_whole(self, frames: bytes) -> None:
        """Let a whole block be sent."""
        self._waiting.append(frames)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def take(self, newest: bytes = b"", *, is_last: bool = False) -> list[Measured]:
        """Return the messages to send now; `newest` are rows since the last block. The last ones wait for nothing."""
        messages: list[Measured] = []
        while self._waiting and (is_last or self.number - self.taken < MAX_IN_FLIGHT):
            messages.append(self._message(self._waiting.popleft(), is_whole=True))
        if newest or (self._windows and (is_last or self.number - self.taken < MAX_IN_FLIGHT)):
            messages.append(self._message(newest, is_whole=False))
        return messages

    def _message(self, frames: bytes, *, is_whole: bool) -> Measured:
        self.number += 1
        windows, self._windows = tuple(self._windows), []
        return Measured(
            number=self.number,
            agent_incarnation=self.agent_incarnation,
            frames=frames,
            is_whole=is_whole,
            windows=windows,
            dropped=self.dropped,
        )
