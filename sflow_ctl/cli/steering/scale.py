"""`sflow-ctl scale`: more or fewer replicas of a task of a live run. A revision as those of `apply`."""

from pathlib import Path

import click
from msgspec.structs import replace

from protocol.errors import UsageError
from protocol.text.listing import listed
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.steering.apply import RESUME_INSTEAD, carry_out, proposed
from sflow_ctl.cli.steering.target import target_run
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.runtime.operating.client import check_alive
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.run.options import FleetOptions, RunOptions, TaskOptions, WorkflowOptions

SHOWN = 8


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[RUN] TASK N", shell_complete=complete_words)
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@output_dir_option
def scale(words: tuple[str, ...], dry_run: bool, as_json: bool, output_dir: Path) -> int:
    """Give a replicated task of a live run N replicas: more of them start if there is room, and those above N are stopped.

    RUN is a run directory, a run id or the beginning of one. Default: the only live run. TASK is one with replicas: N or
    replicas: {count: N}. Replicas that stay are left alone; what uses the ports of all of them starts again. Those without
    room wait, and sflow-ctl explain says for what. Does not wait: sflow-ctl wait --for ready does.
    """
    reader, name, count = _chosen(words, output_dir)
    check_alive(reader, RESUME_INSTEAD)
    _check(reader, name)
    given = WorkflowOptions(
        files=(absolute(reader.directory) / layout.WORKFLOW,),
        are_files_given=False,
        overrides=(f"tasks.{name}.replicas.count={count}",),
        workspace_dir=Path.cwd(),
    )
    options = RunOptions(workflow=given, fleet=FleetOptions(), tasks=TaskOptions())
    found = proposed(reader, replace(options, run_id=None))
    return carry_out(found, is_dry=dry_run, as_json=as_json)


def _chosen(words: tuple[str, ...], output_dir: Path) -> tuple[RunReader, str, int]:
    """Return the run, the task and the number that the words name. Raises: UsageError."""
    if len(words) not in (2, 3):
        raise UsageError.of("options", "scale needs a task and a number", hint="sflow-ctl scale decode 8")
    *run, name, number = words
    if not number.isascii() or not number.isdecimal() or int(number) < 1:
        hint = "give a number of replicas from 1 on; sflow-ctl apply removes a task, sflow-ctl stop stops it"
        raise UsageError.of("options", f'"{number}" is not a number of replicas', hint=hint)
    return target_run(run[0] if run else None, output_dir), name, int(number)


def _check(reader: RunReader, name: str) -> None:
    """Raises: UsageError for a task that has no number of replicas."""
    run_id = reader.facts.run_id
    members = [task for task in reader.plan.tasks if task.base == name and not task.removed_in]
    if not members:
        known = listed(
            list(dict.fromkeys(task.base for task in reader.plan.tasks if not task.removed_in)), SHOWN
        )
        raise UsageError.of(
            "unknown-task", f'run {run_id} has no task "{name}"', hint=f"its tasks are {known}"
        )
    what, hint = _why_not(members)
    if what:
        raise UsageError.of("not-scalable", f"{name} {what}", hint=hint)


def _why_not(members: list[PlannedTask]) -> tuple[str, str]:
    """Say why a task has no number of replicas, as the end of a sentence, and what to do; empty if it has."""
    first = members[0]
    if first.cell is not None:
        return (
            "is a part of a sweep: its cells say how many there are",
            "change the values of the sweep, and sflow-ctl apply the file",
        )
    if first.sweep:
        variables = ", ".join(name for name, _ in first.sweep)
        return (
            f"has a replica for each value of {variables}",
            "change their domain, and sflow-ctl apply the file",
        )
    if not first.is_replicated:
        return "is not replicated", "give it replicas: {count: N} in the file, and sflow-ctl apply that"
    return "", ""
