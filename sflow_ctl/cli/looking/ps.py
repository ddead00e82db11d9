"""`sflow-ctl ps`: the runs of this user, here and elsewhere, and jobs that wait in Slurm."""

import time
from pathlib import Path

import click

from protocol.errors import ExitStatus
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.report.looking.run_list import RunList, nothing_text, run_table
from sflow_ctl.report.selecting.run_query import KEYS, fitting_runs
from sflow_ctl.runtime.catalog.overview import all_runs
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
    help='Only runs of which all of this is true, as "state=failed,workflow=train*", ended ones too; repeatable: any of them. '
    f"Keys: {', '.join(KEYS)}.",
)
@output_dir_option
def ps(shows_all: bool, as_json: bool, queries: tuple[str, ...], output_dir: Path) -> int:
    """List your runs: those in the output directory, and those that were started elsewhere.

    Shows live runs, and runs whose controller died within a day. Jobs of yours that wait in Slurm, or in which no known
    run is, have a row as well.
    """
    now = time.time_ns()
    runs = all_runs(output_dir)
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
    table = run_table(whole, now, lambda path: display_path(Path(path)))
    print_table(table)
    if not table.rows:
        print_line("no run is meant" if queries else nothing_text(runs, display_path(output_dir)))
    return int(ExitStatus.OK)


def _died_lately(state: str, ended_wall_ns: int | None, now_wall_ns: int) -> bool:
    return state == "died" and ended_wall_ns is not None and now_wall_ns - ended_wall_ns < RECENT_S * 1e9
