"""`sflow-ctl ps`: the runs of this user, here and elsewhere, and jobs that wait in Slurm."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from protocol.errors import ExitStatus
from protocol.text.counted import counted
from sflow_ctl.cli.many_runs import listed_runs, listed_tasks
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.report.looking.run_list import RunList, nothing_text, run_table
from sflow_ctl.report.selecting.run_query import KEYS, fitting_runs
from sflow_ctl.report.selecting.task_query import KEYS as TASK_KEYS
from sflow_ctl.results.task_entries import FoundTasks, entry_table
from sflow_ctl.runtime.slurm.user_jobs import user_jobs

RECENT_S = 24 * 3600.0
"""A run that died is shown for so long without `--all`; later only with it."""


@click.command()
@click.option("-a", "--all", "shows_all", is_flag=True, help="Show runs that have ended as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--query",
    "queries",
    multiple=True,
    metavar="QUERY",
    help='Only runs that meet all of these conditions, as "state=failed,workflow=train*", ended ones too; '
    "repeatable: any of them. "
    f"Keys: {', '.join(KEYS)}.",
)
@click.option(
    "--tasks",
    "task_queries",
    multiple=True,
    metavar="QUERY",
    help='List tasks of these runs, ended ones too, that meet all of these conditions, as "state=failed,task=train*"; '
    f"repeatable: any of them. Keys: {', '.join(TASK_KEYS)}.",
)
@output_dir_option
def ps(
    shows_all: bool, as_json: bool, queries: tuple[str, ...], task_queries: tuple[str, ...], output_dir: Path
) -> int:
    """List your runs: those in the output directory, and those that were started elsewhere.

    Shows live runs, and runs whose controller died within a day. Your Slurm jobs that wait, or that hold no known run, have a
    row as well.
    """
    if task_queries:
        return _list_tasks(output_dir, queries, task_queries, as_json=as_json)
    now = time.time_ns()
    runs = listed_runs(output_dir)
    shown = [
        run for run in runs if shows_all or run.is_live or _died_lately(run.state, run.ended_wall_ns, now)
    ]
    if queries:
        shown = fitting_runs(queries, runs)
    jobs, problem = ((), "") if queries else user_jobs()
    of_runs = {run.job_id for run in runs if run.is_live}
    others = tuple(job for job in jobs if job.job_id not in of_runs)
    whole = RunList(runs=tuple(shown), jobs=others, jobs_problem=problem)
    if as_json:
        print_json(whole)
        return int(ExitStatus.OK)
    table = run_table(whole, now, display_path)
    print_table(table)
    if not table.rows:
        print_line("no run is meant" if queries else nothing_text(runs, display_path(output_dir)))
    return int(ExitStatus.OK)


def _list_tasks(
    output_dir: Path, queries: Sequence[str], task_queries: Sequence[str], *, as_json: bool
) -> int:
    tasks, count = listed_tasks(output_dir, queries, task_queries)
    if as_json:
        print_json(FoundTasks(tasks=tuple(tasks)))
        return int(ExitStatus.OK)
    print_table(entry_table(tasks))
    print_line(f"{counted(len(tasks), 'task')} of {counted(count, 'run')}")
    return int(ExitStatus.OK)


def _died_lately(state: str, ended_wall_ns: int | None, now_wall_ns: int) -> bool:
    return state == "died" and ended_wall_ns is not None and now_wall_ns - ended_wall_ns < RECENT_S * 1e9
