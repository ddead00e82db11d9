"""All runs, by the index where the settings ask for one. Shared by `ps` and `export`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.report.looking.run_list import RunEntry
from sflow_ctl.report.selecting.run_query import fitting_runs
from sflow_ctl.report.selecting.task_query import task_query
from sflow_ctl.results.task_entries import TaskEntry, refuse_unknown_words
from sflow_ctl.runtime.catalog.overview import all_places, all_runs
from sflow_ctl.runtime.index.opening import open_index
from sflow_ctl.runtime.index.runs import found_tasks, refreshed

if TYPE_CHECKING:
    from sflow_ctl.runtime.index.database import Index

T = TypeVar("T")


def listed_runs(output_dir: Path) -> list[RunEntry]:
    """Return all runs, the newest first. Raises: SpecError for wrong settings."""
    return _of_all_runs(output_dir, lambda runs, _: runs, with_tasks=False)


def listed_tasks(
    output_dir: Path, run_queries: Sequence[str], task_queries: Sequence[str]
) -> tuple[list[TaskEntry], int]:
    """Return the tasks that queries mean, of all runs that queries mean, and how many runs those are.

    Raises: UsageError for words that nothing could have, SpecError for wrong settings.
    """

    def chosen_tasks(runs: list[RunEntry], index: "Index | None") -> tuple[list[TaskEntry], int]:
        chosen = fitting_runs(run_queries, runs) if run_queries else runs
        query = task_query(task_queries)
        found, everything = found_tasks(query, chosen, index)
        if not found:
            refuse_unknown_words(query, everything)
        return found, len(chosen)

    return _of_all_runs(output_dir, chosen_tasks, with_tasks=True)


def _of_all_runs(
    output_dir: Path, use: "Callable[[list[RunEntry], Index | None], T]", *, with_tasks: bool
) -> T:
    """Return what is made of all runs and of the index, or of the runs alone where no index can be used."""
    index, problem = open_index(os.environ)
    if problem:
        print_line(f"warning: {problem}", err=True)
    if index is not None:
        from sflow_ctl.runtime.index.database import UnusableIndexError

        try:
            with index:
                return use(refreshed(index, all_places(output_dir), with_tasks=with_tasks).runs, index)
        except UnusableIndexError as error:
            print_line(f"warning: no index of runs: {error}", err=True)
    return use(all_runs(output_dir), None)
