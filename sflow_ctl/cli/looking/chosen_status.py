"""The tasks of a run that a query means, with their numbers: `status --query`, `status --numbers`."""

import time
from collections.abc import Sequence

import msgspec

from protocol.errors import ExitStatus, UsageError
from protocol.text.counted import counted
from sflow_ctl.cli.options.query_option import tasks_of_query
from sflow_ctl.cli.options.run_option import state_text
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import TaskSummary, task_summaries
from sflow_ctl.report.tables import Table, all_tasks_table
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.viewing.progress import read_progress


class ChosenStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`status --query ... --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    liveness: Liveness
    """As in `status --json`."""
    total: int
    """The number of all tasks."""
    numbers: tuple[int, ...]
    """The number of each task that is meant, from 1, in the order of the plan."""
    counts: dict[str, int]
    """The number of tasks that are meant in each state."""
    tasks: tuple[TaskSummary, ...]
    """The tasks that are meant, as in `summary.json`."""


def print_chosen(
    reader: RunReader,
    queries: Sequence[str],
    *,
    as_json: bool,
    is_watching: bool,
    is_numbered: bool,
    is_verbose: bool = False,
    must_find: bool = False,
) -> int:
    """Print the state of the tasks that queries mean; without any, of all. Raises: UsageError.

    `must_find` ends with status 1 where no task is meant.
    """
    if is_watching:
        raise UsageError.of("options", "--watch shows all tasks", hint="leave out --query and --numbers")
    if queries:
        chosen = tasks_of_query(reader, queries)
    else:
        reader.refresh()
        chosen = [task.name for task in reader.plan.tasks]
    state, status = reader.state, reader.status()
    if status.liveness is Liveness.DEAD:
        reader.lose_live_tasks()
    elif status.liveness is not Liveness.ENDED:
        read_progress(state, reader.directory, lambda: reader.plan)
    numbers = {name: index for index, name in enumerate((task.name for task in reader.plan.tasks), 1)}
    shown = RunView(state.plan)
    shown.tasks = {name: state.tasks[name] for name in chosen}
    end = ExitStatus.OK if chosen or not must_find else ExitStatus.RUN_FAILED
    if as_json:
        print_json(
            ChosenStatus(
                run_id=reader.facts.run_id,
                directory=str(reader.directory.absolute()),
                liveness=status.liveness,
                total=len(state.tasks),
                numbers=tuple(numbers[name] for name in chosen),
                counts={word.value: count for word, count in shown.counts().items()},
                tasks=task_summaries(shown),
            )
        )
        return int(end)
    print_line(state_text(reader, reader.summary()))
    if queries:
        print_line(f"{counted(len(chosen), 'task')} of {len(state.tasks)} meant")
    is_live = status.liveness in (Liveness.RUNNING, Liveness.UNKNOWN)
    table = all_tasks_table(shown, time.time_ns() if is_live else None)
    print_table(_numbered(table, [numbers[name] for name in chosen]) if is_numbered else table)
    if is_verbose:
        from sflow_ctl.cli.commands.status import print_checkpoints

        print_checkpoints(shown)
    return int(end)


def _numbered(table: Table, numbers: Sequence[int]) -> Table:
    """Return a table with one more column, the tasks' numbers, before the others."""
    if not table.rows:
        return table
    rows = tuple((str(number), *row) for number, row in zip(numbers, table.rows, strict=True))
    return msgspec.structs.replace(
        table, headings=("NUMBER", *table.headings), rows=rows, right=table.right | {"NUMBER"}
    )
