"""Which outputs `outputs` and `collect` are about: a run, tasks of it, a query, patterns of names."""

from collections.abc import Sequence
from pathlib import Path

from protocol.errors import UsageError
from sflow_ctl.cli.options.query_option import tasks_of_query
from sflow_ctl.cli.options.run_option import chosen_tasks
from sflow_ctl.runtime.handover.listing import ListedOutput, outputs_of
from sflow_ctl.runtime.record.reader import RunReader, find_run


def chosen_outputs(
    run: str | None, tasks: Sequence[str], queries: Sequence[str], names: Sequence[str], output_dir: Path
) -> tuple[RunReader, list[ListedOutput]]:
    """Return a run and its outputs that are meant. Raises: UsageError for a task or a name that it does not have."""
    reader = RunReader(find_run(run, output_dir, prefers_live=True))
    chosen = chosen_tasks(reader, tuple(tasks)) if tasks else None
    if queries:
        chosen = tasks_of_query(reader, queries, chosen)
    else:
        reader.refresh()
    found = outputs_of(reader, None if chosen is None else set(chosen), names)
    if names and not found:
        known = sorted({one.name for one in outputs_of(reader)})
        hint = f"outputs: {', '.join(known[:20])}" if known else "no task with outputs has completed"
        raise UsageError.of("unknown-output", f"there is no output {' or '.join(names)}", hint=hint)
    return reader, found
