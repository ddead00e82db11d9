"""`sflow-ctl outputs`: what the tasks of a run have handed over."""

from pathlib import Path
from typing import Any

import click
import msgspec

from protocol.errors import ExitStatus
from protocol.text.counted import counted
from protocol.text.sizes import size_text
from sflow_ctl.cli.handover.choosing import chosen_outputs
from sflow_ctl.cli.handover.shown_values import shown_value
from sflow_ctl.cli.options.completing import complete_runs, complete_tasks
from sflow_ctl.cli.options.query_option import query_option
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.report.tables import Table
from sflow_ctl.runtime.handover.listing import ListedOutput
from sflow_ctl.runtime.handover.run_outputs import RunOutput, read_outputs
from sflow_ctl.runtime.record.reader import RunReader


class OutputList(msgspec.Struct, frozen=True, kw_only=True):
    """`outputs --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    workflow: dict[str, Any] = {}
    """The outputs of the whole run, `workflow.outputs`, by name; none before it has ended."""
    outputs: tuple[ListedOutput, ...]
    """The outputs of tasks that have completed, in the order of the plan."""


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.argument("tasks", nargs=-1, metavar="[TASK]...", shell_complete=complete_tasks)
@click.option(
    "--name", "names", multiple=True, metavar="PATTERN", help="Only outputs of this name; repeatable."
)
@query_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, with every file, its size and its SHA-256."
)
@output_dir_option
def outputs(
    run: str | None,
    tasks: tuple[str, ...],
    names: tuple[str, ...],
    queries: tuple[str, ...],
    as_json: bool,
    output_dir: Path,
) -> int:
    """List the outputs of tasks that have completed: files with sizes and digests, metrics, values.

    RUN is a run directory, a run id or the beginning of one; live, ended or died. Default: the newest live run, else the newest.

    `outputs set RUN TASK NAME=VALUE` gives an output of a completed task another value, NAME=@PATH another file: a record beside
    what the task has left. What was made of the old one is stale: `rerun RUN` runs it again.
    """
    if run == "set" and tasks:
        from sflow_ctl.cli.handover.setting import set_outputs  # few values are set

        return set_outputs(tasks, output_dir)
    reader, found = chosen_outputs(run, tasks, queries, names, output_dir)
    of_run = () if tasks or queries or names else _outputs_of_run(reader)
    if as_json:
        directory = str(reader.directory.absolute())
        values = {one.name: one.value for one in of_run}
        listed = OutputList(
            run_id=reader.facts.run_id, directory=directory, workflow=values, outputs=tuple(found)
        )
        print_json(listed)
        return int(ExitStatus.OK)
    if of_run:
        rows = tuple((one.name, one.source, _shown_of_run(one)) for one in of_run)
        print_table(
            Table(headings=("OUTPUT OF THE RUN", "FROM", "VALUE"), rows=rows, shrinks=frozenset({"VALUE"}))
        )
        print_line("")
    if not found:
        print_line("no task with outputs has completed")
        return int(ExitStatus.OK)
    print_table(
        Table(
            headings=("TASK", "OUTPUT", "KIND", "SIZE", "SHA-256", "VALUE"),
            rows=tuple(_row(one) for one in found),
            right=frozenset({"SIZE"}),
            shrinks=frozenset({"VALUE"}),
        )
    )
    return int(ExitStatus.OK)


def _outputs_of_run(reader: RunReader) -> tuple[RunOutput, ...]:
    read = read_outputs(reader.directory) if reader.plan.outputs else None
    return () if read is None else read.outputs


def _shown_of_run(one: RunOutput) -> str:
    if one.problem:
        return f"(missing: {one.problem})"
    return f"{shown_value(one.value)}{' (default)' if one.is_default else ''}"


def _row(one: ListedOutput) -> tuple[str, ...]:
    size = size_text(one.bytes) if one.files else ""
    return (one.task, one.name, one.kind, size, one.sha256[:12], _shown(one))


def _shown(one: ListedOutput) -> str:
    if one.is_missing and not one.is_default:
        return "(missing)"
    if one.files or one.path:
        text = f"{display_path(Path(one.path))}{' (set)' if one.set_by else ''}"
        return text if len(one.files) == 1 else f"{text} ({counted(len(one.files), 'file')})"
    note = " (set)" if one.set_by else " (default)" if one.is_default else ""
    return f"{shown_value(one.value)}{note}"
