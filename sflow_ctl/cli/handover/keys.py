"""`sflow-ctl keys`: a numbered list of the tasks of a run, with their addresses and keys."""

from pathlib import Path

import click
import msgspec

from protocol.errors import ExitStatus
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.options.run_option import chosen_tasks, output_dir_option
from sflow_ctl.cli.terminal.lines import print_json
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.artifact_mentions import PlannedArtifactUse
from sflow_ctl.plan.same_work import Work, fingerprint
from sflow_ctl.report.tables import Table
from sflow_ctl.runtime.record.reader import RunReader, find_run


class KeyedTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task in `keys --json`."""

    number: int
    """Its place in the run, from 0: selectors may use it."""
    task: str
    """The concrete task, its address."""
    key: str
    """Empty for a task without one."""
    state: TaskState
    fingerprint: str
    """SHA-256 of its work: two tasks with the same one do the same, as far as files and settings say."""


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """`keys --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    directory: str
    """The run directory, absolute."""
    tasks: tuple[KeyedTask, ...]


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the fingerprint of each task.")
@output_dir_option
def keys(run: str | None, tasks: tuple[str, ...], as_json: bool, output_dir: Path) -> int:
    """List the tasks of a run with their numbers, addresses, keys and states.

    A TASK of any command is a name, a key, train[3], train[0:5], a number or a range of this list (0:9), or a pattern.

    RUN is a run directory, a run id or the beginning of one; live, ended or died. Default: the newest live run, else the newest.
    """
    reader = RunReader(find_run(run, output_dir, prefers_live=True))
    reader.refresh()
    chosen = set(chosen_tasks(reader, tasks)) if tasks else None
    states = {name: record.state for name, record in reader.state.tasks.items()}
    listed = [
        (number, task)
        for number, task in enumerate(reader.plan.tasks)
        if task.name in states and (chosen is None or task.name in chosen)
    ]
    if as_json:
        use = PlannedArtifactUse(reader.plan)
        found = tuple(
            KeyedTask(
                number=number,
                task=task.name,
                key=task.key,
                state=states[task.name],
                fingerprint=fingerprint(Work(task, use)),
            )
            for number, task in listed
        )
        print_json(
            KeyList(run_id=reader.facts.run_id, directory=str(reader.directory.absolute()), tasks=found)
        )
        return int(ExitStatus.OK)
    rows = tuple(
        (str(number), task.name, task.key or "-", states[task.name].value) for number, task in listed
    )
    print_table(Table(headings=("NUMBER", "TASK", "KEY", "STATE"), rows=rows, right=frozenset({"NUMBER"})))
    return int(ExitStatus.OK)
