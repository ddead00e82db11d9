"""`sflow-ctl run`: its options. Where they are few and plain, `plain_run.py` has read them, and this is not imported."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sflow_ctl.cli.beginning import begin_run
from sflow_ctl.cli.one_of_many import stands_by
from sflow_ctl.cli.options.given import run_options
from sflow_ctl.cli.options.monitor_options import monitor_options
from sflow_ctl.cli.options.sections import SectionedCommand, section
from sflow_ctl.cli.options.setting_options import job_setting_options, run_setting_options
from sflow_ctl.cli.options.workflow_options import (
    only_option,
    skip_artifact_check,
    task_log_options,
    workflow_options,
)
from sflow_ctl.runtime.record.run_log import LEVELS
from sflow_ctl.runtime.supervision.lifeline import lifeline

_POSITIVE = click.IntRange(min=1)


def _seconds_to_wait(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    if value is None or value.strip() == "":
        return None if value is None else 0
    if not value.strip().isdecimal():
        raise click.BadParameter(f'"{value}" is not a number of seconds, e.g. 600; 0 waits for ever')
    return int(value)


def _complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from sflow_ctl.cli.options.completing import complete_runs  # for shells only

    return complete_runs(context, parameter, incomplete)


_TASKS = section(
    "Tasks",
    click.option(
        "-t",
        "--task",
        "tasks",
        multiple=True,
        metavar="NAME",
        help="Run only this task and its dependencies; repeatable.",
    ),
    click.option(
        "--skip-dependencies",
        is_flag=True,
        help="With --task: run the named tasks without their dependencies.",
    ),
    click.option(
        "--reuse",
        multiple=True,
        metavar="RUN[:TASKS]",
        help="Take over results of this run, of tasks that are the same work: by name or key, and fingerprint; repeatable.",
    ),
    click.option(
        "--reuse-anyway",
        multiple=True,
        metavar="TASKS",
        help="With --reuse: take over results of these tasks although their work has changed; repeatable.",
    ),
    click.option("--max-running", type=_POSITIVE, metavar="N", help="Run at most N tasks at a time."),
    click.option("--keep-alive", is_flag=True, help="Keep ready services running until the run is stopped."),
)
_RUN = section(
    "Run",
    click.option(
        "-b",
        "--bulk-input",
        type=click.Path(path_type=Path),
        metavar="CSV",
        help="Run one row of this sheet, which --row selects.",
    ),
    click.option(
        "--row",
        "rows",
        multiple=True,
        metavar="N",
        help="With --bulk-input: the row, from 1; -1 is the last.",
    ),
    click.option("--dry-run", is_flag=True, help="Print the plan; start nothing."),
    click.option(
        "--resume",
        metavar="RUN",
        shell_complete=_complete_runs,
        help="Resume an unfinished run (last: the newest) in its directory; completed tasks are not rerun.",
    ),
    click.option(
        "--force", is_flag=True, help="With --resume: resume a run even if it may still be running elsewhere."
    ),
    click.option(
        "--detach",
        is_flag=True,
        expose_value=False,
        help="Print the run's name once it has begun, and leave; it continues when the terminal is closed.",
    ),
    click.option(
        "--tui",
        is_flag=True,
        help="Show the run on the whole screen, where tasks can be stopped, restarted and signalled.",
    ),
    click.option("--chain", type=click.Path(path_type=Path), metavar="FILE", hidden=True),
    click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="NAME=VALUE",
        help="Label the run, for sflow-ctl ps --query label.NAME=VALUE; repeatable.",
    ),
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print what happens as JSON, one object a line, and the summary as the last; tasks' output is in their logs.",
    ),
    click.option(
        "--run-id",
        metavar="NAME",
        help="Name of the run directory. Default, and for auto: workflow name, date, time and a random suffix.",
    ),
)
GPUS = section(
    "Nodes and GPUs",
    click.option(
        "--require-idle-gpus",
        is_flag=True,
        help="Refuse to start while other processes use a GPU of the run. Default: warn.",
    ),
    click.option(
        "--wait-for-gpus",
        metavar="S",
        callback=_seconds_to_wait,
        envvar="SFLOW_WAIT_FOR_GPUS",
        help="Wait up to S seconds until no other process uses this machine's GPUs; 0 or an empty value waits forever. "
        "Default: the backend's wait_for_gpus.",
    ),
)
SLURM = section(
    "Inside a Slurm job",
    click.option("--jobid", "job_id", metavar="ID", help="Use the nodes of this running job."),
    click.option(
        "--min-nodes",
        type=_POSITIVE,
        metavar="N",
        help="Start with N nodes if the agents of the others do not connect in time.",
    ),
    click.option(
        "--no-kill", is_flag=True, help="Continue after losing a node, where the workflow allows it."
    ),
)
_SALLOC = section(
    "Slurm job request",
    click.option(
        "--extra-salloc-args",
        multiple=True,
        metavar="ARG",
        help="Add arguments to salloc; they replace equal options of -e; repeatable.",
    ),
)
_EXTRA = section(
    "Run",
    click.option(
        "-e",
        "--extra-args",
        multiple=True,
        metavar="ARG",
        help="Add arguments to salloc, and to docker run on docker backends; they replace equal options of the "
        "workflow; repeatable.",
    ),
    click.option(
        "--extra-docker-args",
        multiple=True,
        metavar="ARG",
        help="Add arguments to docker run; they replace equal options of -e; repeatable.",
    ),
)
CONSOLE = section(
    "Output",
    click.option("-q", "--quiet", is_flag=True, help="Do not print the tasks' output, only state changes."),
    click.option("-v", "--verbose", is_flag=True, expose_value=False, hidden=True),
    click.option(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        default="info",
        show_default=True,
        help="Least severe level that is written to sflow.log.",
    ),
)

_ONLY = section("Output", only_option)


@click.command(cls=SectionedCommand)
@_RUN
@_EXTRA
@_TASKS
@workflow_options
@GPUS
@monitor_options
@run_setting_options
@SLURM
@job_setting_options
@_SALLOC
@skip_artifact_check
@CONSOLE
@_ONLY
@task_log_options
def run(
    dry_run: bool,
    tui: bool,
    as_json: bool,
    resume: str | None,
    chain: Path | None,
    bulk_input: Path | None,
    rows: tuple[str, ...],
    **others: Any,
) -> int:
    """Run a workflow and print its tasks' output; WORKFLOW defaults to ./sflow.yaml.

    Inside a Slurm job, tasks run on the job's nodes; without a job, a workflow for Slurm requests one with salloc.
    Ctrl-C stops the run in order; a second Ctrl-C kills at once.
    """
    line = lifeline()
    if line is not None and line.death is not None:  # the controller before has read all the rest
        from sflow_ctl.cli.execution import continue_run

        status = continue_run(line.death)
        if chain is not None:
            from sflow_ctl.cli.chained import end_link  # few runs are of chains

            return end_link(chain, status)
        return status
    if stands_by():
        return 0
    if tui and as_json:
        from protocol.errors import UsageError

        raise UsageError.of("options", "--tui is for people, --json for programs", hint="use one")
    if tui and not dry_run:
        return _shown_on_screen()
    if as_json and not dry_run and "--detach" not in sys.argv:
        from sflow_ctl.cli.looking.run_lines import run_as_lines  # for programs

        return run_as_lines()
    _refuse_contradictions(others)
    options = run_options(argv=tuple(sys.argv), **others)
    if bulk_input is not None or rows:
        from sflow_ctl.cli.sheets.one_row import with_row  # few runs are of a sheet

        options = with_row(options, bulk_input, rows)
    if chain is not None and not dry_run:
        from sflow_ctl.cli.chained import run_link  # few runs are of chains

        return run_link(options, chain, begin_run)
    if options.tasks.reuse and resume is not None:
        from protocol.errors import UsageError

        raise UsageError.of(
            "options", "--reuse is for a new run, --resume continues one", hint="use one of them"
        )
    if resume is not None or "SLURM_RESTART_COUNT" in os.environ:
        from sflow_ctl.cli.resuming import resumed  # few runs are resumed

        options = resumed(options, resume)
    if dry_run:
        from sflow_ctl.cli.execution import show_plan

        return show_plan(options, as_json)
    return begin_run(options)


def _refuse_contradictions(others: Mapping[str, Any]) -> None:
    """Raises: UsageError for options that say the opposite of each other."""
    if others["skip_dependencies"] and not others["tasks"]:
        from protocol.errors import UsageError

        raise UsageError.of("options", "--skip-dependencies needs --task", hint="name the tasks with --task")
    if others["reuse_anyway"] and not others["reuse"]:
        from protocol.errors import UsageError

        raise UsageError.of("options", "--reuse-anyway needs --reuse", hint="name the run with --reuse RUN")
    if others["quiet"] and others["only"]:
        from protocol.errors import UsageError

        raise UsageError.of("options", "--quiet prints no output, --only that of some tasks", hint="use one")


def _shown_on_screen() -> int:
    """Run in another process, show that on the whole screen, and print how it ended."""
    from sflow_ctl.cli.tui.start import run_with_view  # textual is an extra

    return run_with_view(sys.orig_argv[1:])
