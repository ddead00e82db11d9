"""Many jobs at once: writes each or reports its failure, and writes `results.csv`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from protocol.errors import ExitStatus, FleetError, UsageError
from sflow_ctl.batch.names import row_name, unique_names
from sflow_ctl.batch.results_table import JobResult, result_cells, results_table
from sflow_ctl.batch.row_options import row_nodes
from sflow_ctl.batch.sheet import FILES, JOB_NAME, Row
from sflow_ctl.cli.options.batch_options import BatchOptions
from sflow_ctl.cli.sheets.batch_array import PreparedRow, refuse_with_chain, write_arrays
from sflow_ctl.cli.sheets.batch_job import (
    DEFAULT_NAME,
    JobChoice,
    PreparedJob,
    prepare,
)
from sflow_ctl.cli.sheets.job_files import (
    attach_command,
    make_log_directories,
    submit_job,
    write_job,
)
from sflow_ctl.cli.sheets.sheet_rows import SheetRows
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.findings import print_findings, print_warnings
from sflow_ctl.cli.terminal.lines import print_json, print_line, print_warning
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.files.documents import write_document
from sflow_ctl.runtime.files.stamped_directory import stamped_directory


class BatchEntry(Struct, frozen=True, kw_only=True):
    """A job of `batch --json`."""

    name: str
    """The name of the script."""
    status: str
    """`written`, `submitted` or `failed`: its reason is on standard error."""
    script: str
    """The batch script, absolute."""
    workflow: str
    """Its workflow as one file, absolute; empty if it failed."""
    job_id: str | None
    """Slurm's number of the job, once it is submitted."""


class BatchReport(Struct, frozen=True, kw_only=True):
    """`batch --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    table: str = ""
    """`results.csv` of several jobs, absolute; empty for one."""
    jobs: tuple[BatchEntry, ...]
    """In the order of the sheet or of the files."""


def batch_entry(name: str, script: Path, workflow: Path | str, job_id: str | None) -> BatchEntry:
    """Return a job that was written, and submitted if it has a number."""
    return BatchEntry(
        name=name,
        status="submitted" if job_id is not None else "written" if workflow else "failed",
        script=str(script.absolute()),
        workflow=str(Path(workflow).absolute()) if workflow else "",
        job_id=job_id,
    )


class _Candidate(Struct, frozen=True):
    """A job that may still turn out to be impossible."""

    name: str
    where: str
    cells: dict[str, str]
    prepare: Callable[[], PreparedJob]


def batch_rows(options: BatchOptions, rows: SheetRows, as_json: bool = False) -> int:
    """Make a job for each chosen row; return the exit status."""

    def candidate(row: Row) -> _Candidate:
        name = row_name(rows.sheet, row, _known_nodes(options, rows, row), options.job_name or DEFAULT_NAME)

        def prepared() -> PreparedJob:
            chosen = rows.options(row, options.overrides, options.artifacts, options.missable)
            for note in chosen.notes:
                print_warning(note)
            choice = JobChoice(
                files=chosen.files,
                overrides=chosen.overrides,
                artifacts=chosen.artifacts,
                missable=chosen.missable,
                name=name,
                nodes=_nodes_of(options, rows, row),
                file_decides_gpus=True,
            )
            return prepare(options, choice)

        return _Candidate(name, rows.sheet.where(row), row.cells, prepared)

    return _write_all(
        options, "bulk_input", rows.sheet.columns, [candidate(row) for row in rows.chosen], as_json
    )


def batch_files(options: BatchOptions, files: Sequence[Path], as_json: bool = False) -> int:
    """Make a job for each file, each a workflow; return the exit status."""

    def candidate(file: Path, name: str) -> _Candidate:
        choice = JobChoice(
            files=(file,),
            overrides=options.overrides,
            artifacts=options.artifacts,
            missable=options.missable,
            name=name,
            nodes=options.nodes,
            file_decides_gpus=True,
            may_leave_nodes=True,
        )
        cells = {FILES: str(file), JOB_NAME: name}
        return _Candidate(name, str(file), cells, lambda: prepare(options, choice))

    names = unique_names([file.stem for file in files])
    candidates = [candidate(file, name) for file, name in zip(files, names, strict=True)]
    return _write_all(options, "bulk_submit", (FILES, JOB_NAME), candidates, as_json)


def _nodes_of(options: BatchOptions, rows: SheetRows, row: Row) -> int | None:
    """Return the number of nodes of a row's job. Raises: UsageError where the command line and the sheet differ."""
    of_row = row_nodes(rows.sheet, row, options.overrides)
    if options.nodes is not None and of_row is not None and of_row != options.nodes:
        what = f"--nodes {options.nodes} and the row's {of_row} nodes are two different sizes of one job"
        raise UsageError.of(
            "other-node-count", what, rows.sheet.where(row), "leave out --nodes, or correct the cell"
        )
    return options.nodes or of_row


def _known_nodes(options: BatchOptions, rows: SheetRows, row: Row) -> int | None:
    """Return the number of nodes for the name of a row, which needs a name even if its number of nodes is invalid."""
    try:
        return options.nodes or row_nodes(rows.sheet, row, options.overrides)
    except FleetError:
        return None


def _write_all(
    options: BatchOptions,
    prefix: str,
    columns: Sequence[str],
    candidates: Sequence[_Candidate],
    as_json: bool,
) -> int:
    refuse_with_chain(options)
    directory = stamped_directory(options.output_dir, prefix)
    results: list[JobResult] = []
    try:
        if options.is_array:
            results += _write_arrays(options, directory, candidates, is_quiet=as_json)
        else:
            for candidate in candidates:
                results.append(_write(options, directory, candidate, is_quiet=as_json))
    finally:  # an interrupted call has submitted jobs as well
        lines = [
            {
                **candidate.cells,
                **result_cells(result, str(options.output_dir), directory.name, options.submit),
            }
            for candidate, result in zip(candidates, results, strict=False)
        ]
        table = SECRETS.mask.text(results_table(columns, lines, has_composed=options.resolve))
        write_document(directory / "results.csv", table, is_private=True)
    failed = sum(result.status == "failed" for result in results)
    if as_json:
        jobs = [
            batch_entry(
                one.name,
                Path(result.script or directory / f"{one.name}.sh"),
                result.composed,
                result.job_id or None,
            )
            for one, result in zip(candidates, results, strict=True)
        ]
        print_json(BatchReport(table=str((directory / "results.csv").absolute()), jobs=tuple(jobs)))
        return int(ExitStatus.RUN_FAILED if failed else ExitStatus.OK)
    done = len(results) - failed
    verb = "submitted" if options.submit else "written"
    print_line(
        f"{'✗' if failed else '✓'} {done} of {len(results)} {verb}: {display_path(directory)}/results.csv"
    )
    return int(ExitStatus.RUN_FAILED if failed else ExitStatus.OK)


def _write_arrays(
    options: BatchOptions, directory: Path, candidates: Sequence[_Candidate], *, is_quiet: bool
) -> list[JobResult]:
    """Make arrays of the jobs that can be made; return the result of each candidate."""
    rows = []
    for number, candidate in enumerate(candidates, 1):
        try:
            job = candidate.prepare()
        except FleetError as error:
            _say_failed(candidate, error)
            continue
        print_warnings(replace(one, what=f"{candidate.where}: {one.what}") for one in job.warnings)
        rows.append(PreparedRow(number, candidate.name, job))
    done = write_arrays(options, directory, rows, is_quiet=is_quiet)
    return [done.get(number, JobResult("failed")) for number in range(1, len(candidates) + 1)]


def _say_failed(candidate: _Candidate, error: FleetError) -> None:
    print_line(f"✗ {candidate.name}: {candidate.where}", err=True)
    print_findings(error)


def _write(options: BatchOptions, directory: Path, candidate: _Candidate, *, is_quiet: bool) -> JobResult:
    script = directory / f"{candidate.name}.sh"
    composed = script.with_suffix(".yaml")
    try:
        job = candidate.prepare()
        print_warnings(replace(one, what=f"{candidate.where}: {one.what}") for one in job.warnings)
        make_log_directories(job)
        write_job(job, script, composed)
        if not options.submit:
            if not is_quiet:
                print_line(f"✓ {candidate.name}: {display_path(script)}")
            return JobResult("not submitted", composed=str(composed))
        job_id = submit_job(script)
    except FleetError as error:
        _say_failed(candidate, error)
        return JobResult("failed")
    if not is_quiet:
        print_line(f"✓ {candidate.name}: job {job_id}, {attach_command(options.output_dir, job_id)}")
    return JobResult("submitted", job_id, str(composed))
