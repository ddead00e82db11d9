"""`sflow-ctl export`: results, parameters and states of runs for other tools."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from protocol.errors import ExitStatus, UsageError
from protocol.text.counted import counted
from sflow_ctl.cli.many_runs import listed_runs, listed_tasks
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.report.selecting.run_query import fitting_runs
from sflow_ctl.results.exported import ExportedRun, entries_of_runs
from sflow_ctl.results.task_entries import TaskEntry
from sflow_ctl.runtime.record.reader import RunReader, find_run
from sflow_ctl.runtime.reporting.reading import exported_run

_DEFAULTS = {"csv": "sflow-export.csv", "parquet": "sflow-export.parquet", "mlflow": "mlruns", "wandb": "."}


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """`export --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    target: str
    """What `--to` said."""
    path: str
    """The file, directory or address that was written to; files and directories absolute."""
    records: int
    """The rows of a table, one for each task; the runs that a tracking tool got."""
    runs: int
    """The runs that they are of."""


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...", shell_complete=complete_runs)
@click.option(
    "--to",
    "target",
    type=click.Choice(list(_DEFAULTS)),
    default="csv",
    show_default=True,
    help="Format of the export.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="File of csv and parquet; store of mlflow: a directory, or an address as sqlite:///runs.db; directory of wandb. "
    "Default: sflow-export.csv, sflow-export.parquet, mlruns, the current directory.",
)
@click.option(
    "--query",
    "queries",
    multiple=True,
    metavar="QUERY",
    help="All runs that match this query, as in `ps --query`; repeatable: any of them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON about what was written.")
@output_dir_option
def export(
    runs: tuple[str, ...],
    target: str,
    output: str | None,
    queries: tuple[str, ...],
    as_json: bool,
    output_dir: Path,
) -> int:
    """Export results, swept values, labels and states of runs, live or ended, for other tools.

    RUN is a run directory, a run id or the beginning of one. Default: the newest. A table (csv, parquet) has a row for each task;
    mlflow and wandb get a run for each cell of a sweep, and for each other task with values. wandb is written as offline files,
    for `wandb sync`. parquet, mlflow and wandb need `pip install "sflow-ctl[NAME]"`. An existing file is replaced.
    """
    if runs and queries:
        raise UsageError.of("options", "name runs, or give --query, not both")
    path = output or _DEFAULTS[target]
    try:
        if target in ("csv", "parquet"):
            from sflow_ctl.runtime.tracking.tables import write_csv, write_parquet

            entries, many = _entries(runs, queries, output_dir)
            count = (write_csv if target == "csv" else write_parquet)(entries, Path(path))
        else:
            found = [exported_run(RunReader(run)) for run in _directories(runs, queries, output_dir)]
            many, count = len(found), _tracked(found, target, path)
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        raise UsageError.of("file-not-writable", what, hint="name another one with -o") from error
    unit = "task" if target in ("csv", "parquet") else "record"
    where = path if "://" in path else display_path(Path(path))
    if as_json:
        place = path if "://" in path else str(Path(path).absolute())
        print_json(ExportReport(target=target, path=place, records=count, runs=many))
        return int(ExitStatus.OK)
    print_line(f"✓ Exported {counted(count, unit)} of {counted(many, 'run')} to {where}")
    if (command := _viewing(target, path)) is not None:
        print_line(f"  Look at it: {command}")
    return int(ExitStatus.OK)


def _viewing(target: str, path: str) -> str | None:
    """Return the command that shows what was exported; None for tables and servers."""
    place = shlex.quote(path)
    if target == "wandb":
        return f"wandb sync {place}/wandb/offline-run-*" if path != "." else "wandb sync wandb/offline-run-*"
    if target != "mlflow" or path.startswith("http"):
        return None
    is_directory = "://" not in path or path.startswith("file:")
    allowed = "MLFLOW_ALLOW_FILE_STORE=true " if is_directory else ""  # MLflow 3 asks for it
    return f"{allowed}mlflow ui --backend-store-uri {place}"


def _tracked(found: Sequence[ExportedRun], target: str, path: str) -> int:
    if target == "mlflow":
        from sflow_ctl.runtime.tracking.mlflow_store import write_mlflow

        return write_mlflow(found, path)
    from sflow_ctl.runtime.tracking.wandb_files import write_wandb

    return write_wandb(found, Path(path))


def _directories(runs: Sequence[str], queries: Sequence[str], output_dir: Path) -> list[Path]:
    if queries:
        return [Path(run.directory) for run in fitting_runs(queries, listed_runs(output_dir))]
    return [find_run(run, output_dir) for run in runs or (None,)]


def _entries(runs: Sequence[str], queries: Sequence[str], output_dir: Path) -> tuple[list[TaskEntry], int]:
    """Return the tasks of the runs, and the number of runs: of a query by the index, if there is one."""
    if queries:
        return listed_tasks(output_dir, queries, ("task=*",))
    found = [exported_run(RunReader(run)) for run in _directories(runs, (), output_dir)]
    return entries_of_runs(found), len(found)
