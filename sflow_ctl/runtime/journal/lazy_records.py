"""The records of tasks as a snapshot has them, each decoded when it is asked for.

Of 100,000 tasks that have ended, a controller that takes over asks for nearly none before it schedules again. From outside this
is the dict that a `RunView` has. Made by `snapshot.py`.
"""

from collections.abc import ItemsView, Iterable, Iterator, ValuesView
from functools import cache
from typing import Any, cast

import msgspec

from sflow_ctl.core.states import TaskState
from sflow_ctl.report.run_view import TaskRecord


class LazyRecords(dict[str, TaskRecord]):
    """Records by the names of their tasks."""

    def __init__(self, names: Iterable[str], raws: Iterable[msgspec.Raw]) -> None:
        super().__init__(zip(names, cast("Iterable[TaskRecord]", raws), strict=True))
        self._then: dict[str, TaskState] = {}
        """The states that records had in the snapshot, of those that were decoded since."""

    def as_stored(self) -> Iterable[Any]:
        """Return the records for another snapshot: those that nothing has asked for as they are in this one."""
        return super().values()

    def state_then(self, name: str) -> TaskState | None:
        """Return the state of a task in the snapshot; None for one that it does not have."""
        if name in self:
            self[name]  # which notes it
        return self._then.get(name)

    def __getitem__(self, name: str) -> TaskRecord:
        found = super().__getitem__(name)
        if not isinstance(found, msgspec.Raw):
            return found
        record = _decoder().decode(found)
        self._then[name] = record.state
        super().__setitem__(name, record)
        return record

    def get(self, name: str, default: Any = None) -> Any:
        """Return a record, or `default` without one."""
        if name not in self:
            return default
        return self[name]

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a record; without one the default, which is the record from then on."""
        if name not in self:
            self[name] = default
        return self[name]

    def __iter__(self) -> Iterator[str]:  # so that a copy of it is made by `__getitem__`
        return super().__iter__()

    def values(self) -> ValuesView[TaskRecord]:  # type: ignore[override]
        """Return all records."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, TaskRecord]:  # type: ignore[override]
        """Return all records with their names."""
        return ItemsView(self)


@cache
def _decoder() -> "msgspec.json.Decoder[TaskRecord]":
    return msgspec.json.Decoder(TaskRecord)
