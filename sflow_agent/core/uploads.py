"""The uploads of one agent: each is done once, however often its order is repeated. Pure; `agent` calls it."""

from protocol.ids import AttemptId
from protocol.messages.facts import Uploaded, Uploading
from protocol.messages.orders import Stop, UploadFiles
from sflow_agent.core.commands import AgentCommand, BeginUpload, EndUpload, Report
from sflow_agent.core.events import UploadEnded, UploadProgressed

KEPT_RESULTS = 10_000
"""Results that are kept for orders that are repeated; the oldest go first."""


class Uploads:
    """Uploads in progress, and the results of those that have ended."""

    def __init__(self) -> None:
        self._running: set[AttemptId] = set()
        self._ended: dict[AttemptId, Uploaded] = {}

    def __bool__(self) -> bool:
        """Return whether an upload is in progress."""
        return bool(self._running)

    def order(self, order: UploadFiles, *, is_ending: bool) -> list[AgentCommand]:
        """Begin an upload; a known one continues, or is answered again. An agent that ends begins none."""
        if order.attempt in self._ended:
            return [Report(self._ended[order.attempt])]
        if order.attempt in self._running or is_ending:
            return []
        self._running.add(order.attempt)
        return [BeginUpload(order)]

    def stop(self, order: Stop) -> list[AgentCommand]:
        """End the upload of an attempt that is stopped."""
        is_running = order.attempt in self._running
        return [EndUpload(order.attempt, is_forced=order.is_forced)] if is_running else []

    def stop_all(self, *, is_forced: bool) -> list[AgentCommand]:
        """End all uploads: the agent ends."""
        return [EndUpload(attempt, is_forced=is_forced) for attempt in sorted(self._running)]

    def take(self, event: UploadProgressed | UploadEnded) -> list[AgentCommand]:
        """Report how far an upload is, or its result, which is kept."""
        if event.attempt not in self._running:
            return []
        if isinstance(event, UploadProgressed):
            return [Report(Uploading(attempt=event.attempt, text=event.text))]
        self._running.discard(event.attempt)
        while len(self._ended) >= KEPT_RESULTS:
            del self._ended[next(iter(self._ended))]
        self._ended[event.attempt] = Uploaded(attempt=event.attempt, outcome=event.outcome)
        return [Report(self._ended[event.attempt])]
