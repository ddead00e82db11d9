"""Answers orders about outputs and inputs: each in a thread, so that a file system that does not answer holds up one task alone.

Imported at the first such order.
"""

from collections.abc import Callable, Sequence
from functools import partial

from protocol.ids import AttemptId
from protocol.messages.facts import InputsChecked, OutputsFound
from protocol.messages.handover import ExpectedInput
from protocol.messages.orders import CheckInputs, FileOrder, FindOutputs
from sflow_agent.core.events import AgentEvent
from sflow_agent.handover.checking import CheckedFiles, remove_local
from sflow_agent.handover.copying import RunDirectoryCopies
from sflow_agent.handover.finding import SearchResult, find_outputs
from sflow_agent.handover.problems import HandoverError
from sflow_agent.worker import Lane, Workers

SAID_AFTER_S = 30.0
MAX_AT_ONCE = 4
"""Of those that do not hang: digests take the processor."""


class HandoverService:
    """A source of the loop: it only says what takes long. The answers are reported as they come."""

    def __init__(
        self,
        workers: Workers,
        report: Callable[[OutputsFound | InputsChecked], None],
        warn: Callable[[str], None],
        copies: RunDirectoryCopies | None = None,
    ) -> None:
        """`copies` is of a node that does not share the run directory."""
        self._workers, self._report, self._warn, self._copies = workers, report, warn, copies
        self._lane = Lane("handover", threads=MAX_AT_ONCE, queued=1_000_000)
        self._files = CheckedFiles()
        self._open: dict[tuple[str, AttemptId], float] = {}
        """Work in progress, and when to say that it takes long."""
        self._local: dict[AttemptId, list[ExpectedInput]] = {}
        """What attempts have on a disk of this node."""

    def begin(self, order: FileOrder, now: float) -> None:
        """Begin, unless it is in progress: an order is repeated in a new session."""
        is_search = isinstance(order, FindOutputs)
        key = ("outputs" if is_search else "inputs", order.attempt)
        if key in self._open:
            return
        self._open[key] = now + SAID_AFTER_S
        if isinstance(order, FindOutputs):
            number, counts_all = order.written_by, order.counts_all
            search = partial(
                find_outputs,
                order.directory,
                order.rules,
                number,
                counts_all=counts_all,
                items=order.items,
                has_failed=order.has_failed,
            )
            self._workers.run(key, partial(self._search, search), partial(self._found, order), self._lane)
        elif isinstance(order, CheckInputs):
            if local := [one for one in order.inputs if one.stage == "local"]:
                self._local[order.attempt] = local
            check = partial(self._check, order.inputs)
            self._workers.run(key, check, partial(self._checked, order.attempt), self._lane)

    def forget(self, attempt: AttemptId) -> None:
        """Remove the copies that an attempt had on this node: its last process here has ended."""
        local = self._local.pop(attempt, None)
        if local is not None:
            self._workers.run(("local", attempt), partial(remove_local, local), lambda _: None, self._lane)

    def close(self) -> None:
        """Remove all copies that are left: the agent ends."""
        for local in self._local.values():
            remove_local(local)
        self._local.clear()

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        return min(self._open.values(), default=None)

    def poll(self, now: float, /) -> Sequence[AgentEvent]:
        """Say what takes long: digests of large files, or a file system that does not answer."""
        for (what, attempt), at in self._open.items():
            if at <= now:
                self._open[what, attempt] = float("inf")
                self._warn(f"{attempt}: its {what} are still being read after {SAID_AFTER_S:g} s")
        return ()

    def _search(self, search: Callable[[], SearchResult]) -> SearchResult:
        """Find outputs, and have the controller get their files. Raises: OSError. In a thread."""
        found = search()
        if self._copies is not None and found.outputs:
            try:
                self._copies.send_outputs(found.outputs)
            except HandoverError as error:
                return SearchResult(problem=str(error), hint=error.hint)
        return found

    def _check(self, inputs: Sequence[ExpectedInput]) -> tuple[str, str]:
        """Get the files of inputs that this node does not have, and check all. Raises: OSError. In a thread."""
        if self._copies is not None:
            try:
                self._copies.fetch(inputs)
            except HandoverError as error:
                return str(error), error.hint
        return self._files.check(inputs)

    def _found(self, order: FindOutputs, found: SearchResult | OSError) -> None:
        del self._open["outputs", order.attempt]
        if isinstance(found, OSError):
            found = SearchResult(
                problem=f"its outputs cannot be looked for in {order.directory}: {found.strerror or found}"
            )
        self._report(
            OutputsFound(
                attempt=order.attempt,
                outputs=found.outputs,
                problem=found.problem,
                hint=found.hint,
                is_missing=found.is_missing,
            )
        )

    def _checked(self, attempt: AttemptId, checked: tuple[str, str] | OSError) -> None:
        del self._open["inputs", attempt]
        if isinstance(checked, OSError):
            checked = f"its inputs cannot be read: {checked.strerror or checked}", ""
        problem, hint = checked
        self._report(InputsChecked(attempt=attempt, problem=problem, hint=hint))
