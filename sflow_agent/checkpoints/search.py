"""Answers orders to find a checkpoint: each in a thread, so that a file system that does not answer holds up one start alone.

Imported at the first such order.
"""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from protocol.ids import AttemptId
from protocol.messages.facts import CheckpointFound
from protocol.messages.handover import CheckpointChoice, RecordedFile
from protocol.messages.orders import FindCheckpoint
from sflow_agent.checkpoints.finding import files_of, find_checkpoint
from sflow_agent.core.events import AgentEvent
from sflow_agent.worker import Lane, Workers

SAID_AFTER_S = 5.0
MAX_SEARCHES = 8
"""At a time, of those that do not hang."""


class CheckpointSearch:
    """A source of the loop: it only says which searches take long. The answers are reported as they come."""

    def __init__(
        self,
        workers: Workers,
        report: Callable[[CheckpointFound], None],
        warn: Callable[[str], None],
        hand_over: Callable[[Sequence[RecordedFile]], tuple[str, str]],
    ) -> None:
        """`hand_over` sends files to the controller, where that is needed, and returns a problem and its remedy; in a thread."""
        self._workers, self._report, self._warn, self._hand_over = workers, report, warn, hand_over
        self._lane = Lane("checkpoints", threads=MAX_SEARCHES, queued=1_000_000)
        self._open: dict[AttemptId, tuple[str, float]] = {}
        """Searches in progress, with the directory and when to say that it has not answered."""

    def begin(self, order: FindCheckpoint, now: float) -> None:
        """Search, unless that is in progress: an order is repeated in a new session."""
        attempt = order.attempt
        if attempt in self._open:
            return
        self._open[attempt] = (f"{order.directory}/{order.rules.directory}", now + SAID_AFTER_S)
        work = partial(self._search, order)
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

    def _search(self, order: FindCheckpoint) -> "tuple[CheckpointChoice, tuple[RecordedFile, ...]]":
        """Return what was found, and the files that another node is given of it. Raises: OSError. In a thread."""
        choice = find_checkpoint(order.directory, order.rules, order.base)
        if not order.is_for_another or not choice.path or choice.problem:
            return choice, ()
        files = files_of(order.directory, order.rules, choice)
        problem, hint = self._hand_over(files)
        if problem:
            text = f"its checkpoint {choice.path}, which an earlier attempt has saved on another node, cannot be used: {problem}"
            return msgspec.structs.replace(choice, problem=text, hint=hint), ()
        return choice, files

    def _answer(
        self, attempt: AttemptId, found: "tuple[CheckpointChoice, tuple[RecordedFile, ...]] | OSError"
    ) -> None:
        directory, _ = self._open.pop(attempt)
        if isinstance(found, OSError):
            text = f"the checkpoint that it continues from cannot be looked for in {directory}: {found.strerror or found}"
            found = CheckpointChoice(rule="none", why=text, problem=text), ()
        self._report(CheckpointFound(attempt=attempt, choice=found[0], files=found[1]))
