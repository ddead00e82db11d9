"""`sflow-ctl rerun`: runs tasks of an earlier run again, in its directory or in a copy of it; those of a live run as well."""

from typing import Any

import click
from msgspec.structs import replace

from protocol.errors import ExitStatus, UsageError
from protocol.messages.handover import CheckpointBase
from protocol.text.listing import listed
from sflow_ctl.cli.again.choosing import (
    begin,
    is_another_process,
    options_of_runs,
    run_and_options,
    tasks_chosen,
)
from sflow_ctl.cli.options.sections import SectionedCommand
from sflow_ctl.cli.resuming import resumed
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.core.requests import RestartTasks
from sflow_ctl.report.request_text import answer_lines
from sflow_ctl.report.selecting.rerun import RerunChoice, ended_and_live, with_followers
from sflow_ctl.runtime.operating.client import ask, check_accepted
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.run.options import Lineage, RunOptions

SHOWN = 8


@click.command(cls=SectionedCommand)
@options_of_runs
@click.option("--only", "is_only", is_flag=True, help="Run the chosen tasks alone, not what depends on them.")
@click.option(
    "--with-downstream", is_flag=True, help="Run what depends on the chosen tasks as well. The default."
)
@click.option(
    "--keep-completed",
    "keeps",
    is_flag=True,
    help="Keep all results, also of tasks that --set or --file has changed.",
)
@click.option(
    "--new", "is_new", is_flag=True, help="Copy the run's directory, and run there; the run stays as it is."
)
@click.option("--run-id", metavar="NAME", help="With --new: the name of the copy.")
@click.option(
    "--fresh",
    "is_fresh",
    is_flag=True,
    help="Start from the beginning: ignore all existing checkpoints.",
)
@click.option(
    "--checkpoint",
    metavar="PATH",
    help="Continue from this checkpoint, a path in the task's `checkpoint: dir` or an absolute one, and none that is older.",
)
@click.option("--dry-run", is_flag=True, help="Print what would run and why; change nothing.")
@click.option("--force", is_flag=True, help="Rerun even if the run may still be running elsewhere.")
def rerun(
    words: tuple[str, ...],
    queries: tuple[str, ...],
    is_only: bool,
    with_downstream: bool,
    keeps: bool,
    is_new: bool,
    is_fresh: bool,
    checkpoint: str | None,
    dry_run: bool,
    **others: Any,
) -> int:
    """Run tasks of an earlier run again, in its directory, as their next attempts.

    Without TASK and --query all that has no result runs, and what --set or --file has changed. Chosen tasks run even if they
    had completed, and so does all that depends on them (unless --only); all other tasks keep their states. The plan is
    the run's own, with --set, or that of --file. Of a live run, tasks that have ended start again in it; what runs is left
    alone. Prints what runs and why before anything starts.
    """
    status = is_another_process()
    if status is not None:
        return status
    _check(is_only=is_only, follows=with_downstream, is_new=is_new, run_id=others["run_id"])
    reader, options = run_and_options(words, **others)
    names = tasks_chosen(reader, words[1:], queries)
    if is_only and names is None:
        raise UsageError.of("options", "--only needs chosen tasks", hint="name tasks, or add --query")
    if keeps and names is not None:
        hint = "leave it out: results of tasks that are not chosen are kept"
        raise UsageError.of("options", "--keep-completed is for a rerun without chosen tasks", hint=hint)
    base = _base(reader, names, is_fresh=is_fresh, checkpoint=checkpoint)
    is_live = reader.status().liveness in (Liveness.RUNNING, Liveness.UNKNOWN) and not options.force
    if is_live and reader.connection() is not None:
        return _in_live_run(
            reader, options, names, is_only=is_only, is_new=is_new or base is not None, is_dry=dry_run
        )
    choice = RerunChoice(None if names is None else tuple(names), is_only, keeps, base)
    if is_new and not dry_run:
        reader, options = _copied(reader, options, choice)
    options = resumed(replace(options, run_id=None), str(reader.directory.absolute()))
    return begin(replace(options, rerun=choice), is_dry=dry_run)


def _copied(reader: RunReader, options: RunOptions, choice: RerunChoice) -> tuple[RunReader, RunOptions]:
    """Copy a run, once it is known that it can run again; return the copy and the options for it. Raises: FleetError."""
    from sflow_ctl.runtime.resuming.chosen import runs_nothing
    from sflow_ctl.runtime.resuming.copying import copy_run
    from sflow_ctl.runtime.run.planning import plan_run, read_run

    directory = str(reader.directory.absolute())
    tried = replace(resumed(replace(options, run_id=None), directory), rerun=choice)
    if runs_nothing(plan_run(read_run(tried), tried, is_dry=True), choice):
        what = f"nothing of {reader.facts.run_id} would run again in a copy"
        raise UsageError.of(
            "nothing-chosen", what, hint="choose tasks, or change something with --set or --file"
        )
    copy = copy_run(reader, options.run_id)
    print_line(f"sflow-ctl: {reader.facts.run_id} is copied to {copy.name}", err=True)
    source = Lineage(how="rerun", run_id=reader.facts.run_id, directory=directory, tasks=choice.tasks or ())
    return RunReader(copy), replace(options, derived_from=source)


def _base(
    reader: RunReader, names: list[str] | None, *, is_fresh: bool, checkpoint: str | None
) -> CheckpointBase | None:
    """Return what was said about checkpoints; None for nothing. Raises: UsageError."""
    if checkpoint is None:
        return CheckpointBase() if is_fresh else None
    if is_fresh:
        raise UsageError.of("options", "--fresh and --checkpoint exclude each other", hint="use one")
    if names is None:
        raise UsageError.of("options", "--checkpoint needs chosen tasks", hint="name the task that it is for")
    by_name = {task.name: task for task in reader.plan.tasks}
    without = [name for name in names if by_name[name].checkpoint is None]
    if without or not checkpoint:
        what = f"task {without[0]} has no `checkpoint`" if without else "--checkpoint is empty"
        raise UsageError.of("options", what, hint="choose tasks that have one, and name a file or directory")
    return CheckpointBase(checkpoint)


def _check(*, is_only: bool, follows: bool, is_new: bool, run_id: str | None) -> None:
    if is_only and follows:
        raise UsageError.of("options", "--only and --with-downstream exclude each other", hint="use one")
    if run_id is not None and not is_new:
        raise UsageError.of("options", "--run-id is for a copy", hint="add --new")


def _in_live_run(
    reader: RunReader,
    options: RunOptions,
    names: list[str] | None,
    *,
    is_only: bool,
    is_new: bool,
    is_dry: bool,
) -> int:
    """Have a live run start tasks again that have ended in it."""
    run, source = reader.facts.run_id, options.workflow
    if source.are_files_given or source.overrides or source.artifacts or is_new:
        what = f"{run} is running: its plan stays as it is, and it is not copied"
        raise UsageError.of(
            "still-running",
            what,
            hint="leave out --file, --set, --artifact, --new, --fresh and --checkpoint, or stop it first",
        )
    if names is None:
        what = f"{run} is running: what it has not run yet it runs by itself"
        raise UsageError.of(
            "still-running", what, hint="choose tasks that have ended in it, with --query state=failed"
        )
    reader.refresh()
    states = {name: record.state for name, record in reader.state.tasks.items()}
    all_names = names if is_only else with_followers(names, reader.plan)
    ended, live = ended_and_live(all_names, states, reader.plan)
    if live:
        print_line(f"left alone, they have not ended: {listed(live, SHOWN)}")
    if not ended:
        raise UsageError.of(
            "still-running",
            f"no chosen task of {run} has ended",
            hint="sflow-ctl restart restarts live tasks",
        )
    if is_dry:
        print_line(f"would start again in {run}: {listed(ended, SHOWN)}")
        return int(ExitStatus.OK)
    replied = ask(reader, RestartTasks(tasks=tuple(ended)))
    check_accepted(reader, replied.answer)
    for line in answer_lines(replied.answer):
        print_line(line)
    return int(ExitStatus.OK)
