"""Answers orders to find a checkpoint: each in a thread, so that a file system that does not answer holds up one start alone.

Imported at the first such order.
"""

from collections.abc import Callable, Sequence
from functools import partial

from protocol.ids import AttemptId
from protocol.messages.checkpoints import CheckpointChoice
from protocol.messages.facts import CheckpointFound
from protocol.messages.orders import FindCheckpoint
from sflow_agent.checkpoints.finding import find_checkpoint
from sflow_agent.core.events import AgentEvent
from sflow_agent.worker import Lane, Workers

SAID_AFTER_S = 5.0
MAX_SEARCHES = 8
"""At a time, of those that do not hang."""


class CheckpointSearch:
    """A source of the loop: it only says which searches take long. The answers are reported as they come."""

    def __init__(
        self, workers: Workers, report: Callable[[CheckpointFound], None], warn: Callable[[str], None]
    ) -> None:
        self._workers, self._report, self._warn = workers, report, warn
        self._lane = Lane("checkpoints", threads=MAX_SEARCHES, queued=1_000_000)
        self._open: dict[AttemptId, tuple[str, float]] = {}
        """Searches in progress, with the directory and when to say that it has not answered."""

    def begin(self, order: FindCheckpoint, now: float) -> None:
        """Search, unless that is in progress: an order is repeated in a new session."""
        attempt = order.attempt
        if attempt in self._open:
            return
        self._open[attempt] = (f"{order.directory}/{order.rules.directory}", now + SAID_AFTER_S)
        work = partial(find_checkpoint, order.directory, order.rules, order.base)
        self._workers.run(("checkpoint", attempt), work, partial(self._answer, attempt), self._lane)

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        return min((at for _, at in self._open.values()), default=None)

    def poll(self, now: float, /) -> Sequence[AgentEvent]:
        """Say which searches wait for a file system."""
        for attempt, (directory, at) in self._open.items():
            if at <= now:
                self._open[attempt] = (directory, float("inf"))
                self._warn(
                    f"{attempt}: {directory} has not answered for {SAID_AFTER_S:g} s: its start waits for its checkpoint"
                )
        return ()

    def _answer(self, attempt: AttemptId, found: CheckpointChoice | OSError) -> None:
        directory, _ = self._open.pop(attempt)
        if isinstance(found, OSError):
            text = f"the checkpoint that it continues from cannot be looked for in {directory}: {found.strerror or found}"
            found = CheckpointChoice(rule="none", why=text, problem=text)
        self._report(CheckpointFound(attempt=attempt, choice=found))
