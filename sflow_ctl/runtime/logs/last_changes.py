"""The newest change of every task, for viewers that attach: of this controller, else of those before it.

Owned by the output thread. Of tasks that have not changed since a controller has taken over, the change is made from the
record of the run when a viewer asks for it: of 100,000 tasks that have ended no viewer may ever do.
"""

from collections.abc import Iterable, Iterator, Mapping

from sflow_ctl.core.states import Transition
from sflow_ctl.report.run_view import TaskRecord
from sflow_ctl.runtime.viewing.messages import Change


class LastChanges:
    """The newest change of every task that has one."""

    def __init__(
        self, own: Iterable[Change] = (), records: Mapping[str, TaskRecord] | None = None, since_ns: int = 0
    ) -> None:
        """`records` are those of all tasks when this controller began; `since_ns` is when the run did."""
        self._own = {change.transition.task: change for change in own}
        self._records, self._since_ns = records or {}, since_ns

    def note(self, change: Change) -> None:
        """Take in a change."""
        self._own[change.transition.task] = change

    def get(self, task: str) -> Change | None:
        """Return the last change of a task; None for one that has not changed."""
        own = self._own.get(task)
        if own is not None:
            return own
        record = self._records.get(task)
        return None if record is None or record.reason is None else self._made(record)

    def of(self, task: str) -> Change:
        """Return the last change of a task that has one. Raises: KeyError."""
        found = self.get(task)
        if found is None:
            raise KeyError(task)
        return found

    def all(self) -> Iterator[Change]:
        """Yield the last change of each task."""
        for record in list(self._records.values()):
            if record.name not in self._own and record.reason is not None:
                yield self._made(record)
        yield from self._own.values()

    def __contains__(self, task: str) -> bool:
        return self.get(task) is not None

    def __len__(self) -> int:
        return max(len(self._own), len(self._records))

    def _made(self, record: TaskRecord) -> Change:
        assert record.reason is not None
        return Change(
            record.started_wall_ns or self._since_ns,
            Transition(
                task=record.name,
                attempt=record.attempts,
                old=record.state,
                new=record.state,
                reason=record.reason,
                node=record.node,
                gpus=record.gpus,
                pid=record.pid,
                exit_code=record.exit_code,
                signal=record.signal,
                runtime_s=record.runtime_s,
                use=record.use,
            ),
        )
