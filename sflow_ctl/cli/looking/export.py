"""`sflow-ctl export`: results, parameters and states of runs for other tools."""

from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from protocol.text.counted import counted
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.runtime.record.reader import RunReader, find_run
from sflow_ctl.runtime.reporting.reading import exported_run

_DEFAULTS = {"csv": "sflow-export.csv", "parquet": "sflow-export.parquet", "mlflow": "mlruns", "wandb": "."}


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
@output_dir_option
def export(runs: tuple[str, ...], target: str, output: str | None, output_dir: Path) -> int:
    """Export results, swept values, labels and states of runs, live or ended, for other tools.

    RUN is a run directory, a run id or the beginning of one. Default: the newest. A table (csv, parquet) has a row for each task;
    mlflow and wandb get a run for each cell of a sweep, and for each other task with values. wandb is written as offline files,
    for `wandb sync`. parquet, mlflow and wandb need `pip install "sflow-ctl[NAME]"`. An existing file is replaced.
    """
    found = [exported_run(RunReader(find_run(run, output_dir))) for run in runs or (None,)]
    path = output or _DEFAULTS[target]
    try:
        if target == "mlflow":
            from sflow_ctl.runtime.tracking.mlflow_store import write_mlflow

            count = write_mlflow(found, path)
        elif target == "wandb":
            from sflow_ctl.runtime.tracking.wandb_files import write_wandb

            count = write_wandb(found, Path(path))
        else:
            from sflow_ctl.runtime.tracking.tables import write_csv, write_parquet

            count = (write_csv if target == "csv" else write_parquet)(found, Path(path))
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror or error}"
        raise UsageError.of("file-not-writable", what, hint="name another one with -o") from error
    unit = "task" if target in ("csv", "parquet") else "record"
    where = path if "://" in path else display_path(Path(path))
    print_line(f"✓ Exported {counted(count, unit)} of {counted(len(found), 'run')} to {where}")
    return int(ExitStatus.OK)
