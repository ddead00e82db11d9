"""`sflow-ctl replay`: begins a new run with the plan of an earlier one, whole or of chosen tasks."""

import fnmatch
from typing import Any

import click
from msgspec.structs import replace

from protocol.errors import UsageError
from sflow_ctl.cli.again.choosing import (
    begin,
    is_another_process,
    options_of_runs,
    run_and_options,
    tasks_chosen,
)
from sflow_ctl.cli.options.sections import SectionedCommand
from sflow_ctl.cli.resuming import replayed
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.run.options import Lineage


@click.command(cls=SectionedCommand)
@options_of_runs
@click.option(
    "--id",
    "ids",
    multiple=True,
    metavar="TASK",
    help="Only this task, or those that fit a pattern; repeatable.",
)
@click.option(
    "--index",
    "indices",
    multiple=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the task with this number in sflow-ctl status --numbers, from 1; repeatable.",
)
@click.option("--run-id", metavar="NAME", help="Name of the new run. Default: as for run.")
@click.option("--dry-run", is_flag=True, help="Print the plan; start nothing.")
def replay(
    words: tuple[str, ...],
    queries: tuple[str, ...],
    ids: tuple[str, ...],
    indices: tuple[int, ...],
    dry_run: bool,
    **others: Any,
) -> int:
    """Begin a new run with the plan of an earlier one: its workflow, options and values, none of its results.

    Tasks are chosen by name, --id, --index and --query. A task must match each kind that is given, and any one of a kind.
    What they depend on runs as well. --set changes variables. The new run's run.json says which run it replays.
    """
    status = is_another_process()
    if status is not None:
        return status
    reader, options = run_and_options(words, force=False, **others)
    names = _chosen(reader, tasks_chosen(reader, words[1:], queries), ids, indices)
    directory = reader.directory.absolute()
    lineage = Lineage(
        how="replay", run_id=reader.facts.run_id, directory=str(directory), tasks=tuple(names or ())
    )
    options = replayed(replace(options, derived_from=lineage), reader)
    if names is not None:
        options = replace(options, tasks=replace(options.tasks, tasks=tuple(names)))
    return begin(options, is_dry=dry_run)


def _chosen(
    reader: RunReader, names: list[str] | None, ids: tuple[str, ...], indices: tuple[int, ...]
) -> list[str] | None:
    """Return the tasks that all kinds of words choose; None for all of the run. Raises: UsageError."""
    known = [task.name for task in reader.plan.tasks]
    kinds = [] if names is None else [set(names)]
    if ids:
        unknown = [one for one in ids if not fnmatch.filter(known, one)]
        if unknown:
            what = f"no task of {reader.facts.run_id} is meant by --id {unknown[0]}"
            raise UsageError.of("unknown-task", what, hint=f"its tasks are: {', '.join(known[:20])}")
        kinds.append({name for one in ids for name in fnmatch.filter(known, one)})
    if indices:
        beyond = [one for one in indices if one > len(known)]
        if beyond:
            what = f"there is no task number {beyond[0]}: {reader.facts.run_id} has {len(known)}"
            raise UsageError.of("unknown-task", what, hint="sflow-ctl status --numbers RUN shows them")
        kinds.append({known[one - 1] for one in indices})
    if not kinds:
        return None
    chosen = set.intersection(*kinds)
    if not chosen:
        what = "no task is meant by all of --id, --index, --query and the names together"
        raise UsageError.of("nothing-chosen", what, hint="what is given of several kinds must all hold")
    return [name for name in known if name in chosen]
