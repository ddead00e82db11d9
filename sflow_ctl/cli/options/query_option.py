"""The option `--query` of commands about the tasks of a run."""

from collections.abc import Sequence

import click

from sflow_ctl.report.selecting.task_query import KEYS, fitting_tasks, task_query
from sflow_ctl.runtime.record.reader import Liveness, RunReader

query_option = click.option(
    "--query",
    "queries",
    multiple=True,
    metavar="QUERY",
    help='Only tasks that meet all of these conditions, as "state=failed,task=train*"; repeatable: any of them. '
    f"Keys: {', '.join(KEYS)}. Patterns are those of file names.",
)
"""Add `--query`, which chooses tasks."""


def tasks_of_query(
    reader: RunReader, queries: Sequence[str], names: Sequence[str] | None = None
) -> list[str]:
    """Return the tasks of a run that queries mean now, in the order of the plan, those of `names` alone unless that is None.

    Reads the run's journal. Raises: UsageError for words that nothing of the run could have.
    """
    query = task_query(queries)
    reader.refresh()
    if reader.status().liveness is Liveness.DEAD:
        reader.lose_live_tasks()
    found = fitting_tasks(query, reader.state)
    return found if names is None else [name for name in found if name in set(names)]
