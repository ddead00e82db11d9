"""All runs of a user with their tasks, by the index where there is one: what has changed is read anew, and kept there.

Called by `ps`, `export` and `index`. Without an index every run is read.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from protocol.errors import FleetError
from sflow_ctl.report.looking.run_list import LIVE_STATES, RunEntry
from sflow_ctl.runtime.catalog.overview import newest_first, run_entry
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.reader import RunReader

if TYPE_CHECKING:
    from sflow_ctl.report.selecting.query import Query
    from sflow_ctl.results.task_entries import TaskEntry
    from sflow_ctl.runtime.index.database import Index

_FILES = (layout.RUN, layout.SUMMARY, layout.CLAIM, layout.JOURNAL, layout.PLAN, layout.PLAN_GROWTH)
"""Files of which at least one changes with everything that an entry tells of a run that has ended."""
_LASTING = LIVE_STATES | {"unreadable"}
"""States of runs that are read each time: their processes, or a person, may change them at any moment."""


_AT_ONCE, _TASKS_AT_ONCE = 100, 10_000
"""Runs, and tasks of them, that are written in one change: others wait for it."""


class Refreshed(Struct):
    """What was found, and how much of it was read anew."""

    runs: list[RunEntry]
    """The newest first."""
    read: int = 0


def refreshed(index: "Index", places: Sequence[Path], *, with_tasks: bool) -> Refreshed:
    """Return the entries of all runs, and bring the index up to date. Raises: UnusableIndexError."""
    from sflow_ctl.runtime.index.database import IndexedRun, signatures

    fresh: list[IndexedRun] = []
    known = index.known()
    now = signatures([str(place.absolute()) for place in places], _FILES)
    found = Refreshed([])
    for directory, signature in now.items():
        before = known.get(directory)
        if before is not None and before[0] == signature and (before[2] or not with_tasks):
            found.runs.append(before[1])
            continue
        entry = run_entry(Path(directory))
        found.runs.append(entry)
        found.read += 1
        if entry.state in _LASTING and not with_tasks:
            continue
        tasks = tasks_of(entry) if with_tasks else None
        fresh.append(IndexedRun("" if entry.state in _LASTING else signature, entry, tasks))
        if len(fresh) >= _AT_ONCE or sum(len(one.tasks or ()) for one in fresh) >= _TASKS_AT_ONCE:
            index.put(fresh)
            fresh = []
    index.put(fresh)
    index.forget(one for one in known.keys() - now.keys() if _is_gone(Path(one)))
    return Refreshed(newest_first(found.runs), found.read)


def _is_gone(directory: Path) -> bool:
    """Return whether a run was deleted; one below a directory that is not there now may not be mounted."""
    return not directory.is_dir() and directory.parent.is_dir()


def tasks_of(run: RunEntry) -> "list[TaskEntry]":
    """Return the tasks of a run as its files are now; none of a run that cannot be read."""
    from sflow_ctl.results.task_entries import entries_of
    from sflow_ctl.runtime.reporting.reading import exported_run

    with suppress(FleetError, OSError):
        read = exported_run(RunReader(Path(run.directory)))
        return [*entries_of(read.run_id, run.directory, read.state, read.labels, read.outputs)]
    return []


def found_tasks(
    query: "Query", runs: Sequence[RunEntry], index: "Index | None"
) -> "tuple[list[TaskEntry], Callable[[], Sequence[TaskEntry]]]":
    """Return the tasks of these runs that a query means, newest run first, and what returns all tasks of them."""
    from sflow_ctl.results.task_entries import fits

    wanted = {run.directory: place for place, run in enumerate(runs)}
    if index is None:
        read = [entry for run in runs for entry in tasks_of(run)]
        return [entry for entry in read if fits(query, entry)], lambda: read

    def candidates(of: "Query") -> "Iterator[TaskEntry]":
        return (entry for entry in index.tasks(of) if entry.directory in wanted)

    def everything() -> "Sequence[TaskEntry]":
        return list(candidates(type(query)(((),))))

    found = [entry for entry in candidates(query) if fits(query, entry)]
    found.sort(key=lambda entry: wanted[entry.directory])  # stable: tasks of one run stay in order
    return found, everything
