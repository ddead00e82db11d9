"""What `rerun` and `replay` have in common: the run, the tasks of it that are chosen, and the start of what follows."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from sflow_ctl.cli.beginning import begin_run
from sflow_ctl.cli.commands.run import CONSOLE, GPUS, SLURM
from sflow_ctl.cli.one_of_many import stands_by
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.options.given import run_options
from sflow_ctl.cli.options.query_option import query_option
from sflow_ctl.cli.options.run_option import chosen_tasks
from sflow_ctl.cli.options.setting_options import run_setting_options
from sflow_ctl.cli.options.workflow_options import again_options, skip_artifact_check
from sflow_ctl.cli.resuming import output_dir_of
from sflow_ctl.runtime.record.reader import RunReader, find_run
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.supervision.lifeline import lifeline

F = TypeVar("F", bound=Callable[..., object])


def options_of_runs(command: F) -> F:
    """Add the options of a run that has its plan from an earlier one."""
    words = click.argument(
        "words", nargs=-1, required=True, metavar="RUN [TASK]...", shell_complete=complete_words
    )
    return words(
        query_option(again_options(GPUS(run_setting_options(SLURM(CONSOLE(skip_artifact_check(command)))))))
    )


def is_another_process() -> int | None:
    """Return the exit status of a process that has no run of its own to begin; None where it has one."""
    line = lifeline()
    if line is not None and line.death is not None:  # the controller before has read all the rest
        from sflow_ctl.cli.execution import continue_run

        return continue_run(line.death)
    return 0 if stands_by() else None


def run_and_options(words: Sequence[str], **given: Any) -> tuple[RunReader, RunOptions]:
    """Return the run that the first word names, and the options of the command. Raises: UsageError."""
    options = run_options(workflow=(), argv=tuple(sys.argv), **given)
    return RunReader(find_run(words[0], output_dir_of(options))), options


def tasks_chosen(reader: RunReader, words: Sequence[str], queries: Sequence[str]) -> list[str] | None:
    """Return the tasks that names and queries choose: those that both do; None without any.

    Raises: UsageError for a word that no task has, and if nothing is chosen.
    """
    named = set(chosen_tasks(reader, tuple(words))) if words else None
    if not queries:
        return None if named is None else [task.name for task in reader.plan.tasks if task.name in named]
    from protocol.errors import UsageError
    from sflow_ctl.cli.options.query_option import tasks_of_query

    fitting = tasks_of_query(reader, queries, None if named is None else [*named])
    if not fitting:
        query = " ".join(f"--query {one}" for one in queries)
        raise UsageError.of(
            "nothing-chosen",
            f"no task of {reader.facts.run_id} is meant by {' '.join(words)}{' and ' if words else ''}{query}",
            hint="sflow-ctl status RUN --query ... shows what a query means",
        )
    return fitting


def begin(options: RunOptions, *, is_dry: bool) -> int:
    """Show what would run, or run it; return the exit status. Raises: FleetError."""
    if is_dry:
        from sflow_ctl.cli.execution import show_plan

        return show_plan(options)
    return begin_run(options)
