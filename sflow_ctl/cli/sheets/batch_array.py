"""`batch --array`: the rows of a sheet, or many files, as job arrays. Called by `batch_many.py`."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from protocol.errors import FleetError, UsageError
from sflow_ctl.batch.array import ArrayRow, array_script, same_requests
from sflow_ctl.batch.results_table import JobResult
from sflow_ctl.cli.options.batch_options import BatchOptions
from sflow_ctl.cli.sheets.batch_job import (
    MADE_BY,
    PreparedJob,
)
from sflow_ctl.cli.sheets.job_files import (
    make_log_directories,
    submit_job,
    write_composed,
    write_script,
)
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.findings import print_findings
from sflow_ctl.cli.terminal.lines import print_line


class PreparedRow(Struct, frozen=True):
    """A row whose job can be made, with its number and name."""

    number: int
    name: str
    job: PreparedJob


def write_arrays(
    options: BatchOptions, directory: Path, rows: Sequence[PreparedRow], *, is_quiet: bool
) -> dict[int, JobResult]:
    """Write an array for each group of rows that ask Slurm for the same, and submit it if asked to; return each row's result."""
    results: dict[int, JobResult] = {}
    composed = {row.number: directory / f"{row.name}.yaml" for row in rows}
    entries = []
    for row in rows:
        try:
            make_log_directories(row.job)
            write_composed(row.job, composed[row.number])
            entries.append(ArrayRow(row.number, row.job.stored_job(composed[row.number])))
        except FleetError as error:
            print_findings(error)
            results[row.number] = JobResult("failed")
    groups = same_requests(entries)
    for index, group in enumerate(groups, 1):
        name = options.job_name or "rows"
        path = directory / (f"array_{index}.sh" if len(groups) > 1 else "array.sh")
        try:
            write_script(path, array_script(name, group, options.at_once, MADE_BY))
            job_id = submit_job(path) if options.submit else None
        except FleetError as error:
            print_findings(error)
            results.update({one.number: JobResult("failed") for one in group})
            continue
        rows_text = f"{len(group)} rows" if len(group) > 1 else "1 row"
        if not is_quiet:
            print_line(f"✓ {display_path(path)}: {rows_text}{'' if job_id is None else f', job {job_id}'}")
        for one in group:
            done = JobResult("not submitted", None, str(composed[one.number]), str(path))
            if job_id is not None:
                done = JobResult("submitted", f"{job_id}_{one.number}", str(composed[one.number]), str(path))
            results[one.number] = done
    return results


def refuse_with_chain(options: BatchOptions) -> None:
    """Raises: UsageError: each row of an array would have a chain of its own, and an array has one script."""
    if options.is_array and options.chain is not None:
        raise UsageError.of(
            "options", "--array has no chains", hint="leave out --array: each row is a job with its own chain"
        )
