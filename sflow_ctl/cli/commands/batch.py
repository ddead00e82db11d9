"""`sflow-ctl batch`: Slurm batch scripts that run workflows; one, or one for each row or file."""

from pathlib import Path
from typing import Any

import click

from protocol.errors import UsageError
from sflow_ctl.cli.one_of_many import stands_by
from sflow_ctl.cli.options.batch_options import BatchOptions, batch_options, job_options
from sflow_ctl.cli.options.file_to_write import FileToWrite
from sflow_ctl.cli.options.sections import SectionedCommand
from sflow_ctl.cli.options.workflow_options import file_options, host_options, row_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.findings import print_warnings
from sflow_ctl.cli.terminal.lines import print_document, print_json, print_line, print_warning
from sflow_ctl.plan.secrets import SECRETS

_PATH = click.Path(path_type=Path)


@click.command(cls=SectionedCommand)
@file_options
@host_options
@job_options
@click.option(
    "-o",
    "--sbatch-path",
    "script_path",
    type=FileToWrite(path_type=Path),
    help="File to write the script to. Default: standard output.",
)
@click.option(
    "-b", "--bulk-input", type=_PATH, metavar="CSV", help="Write one job for each row of this sheet."
)
@row_option
@click.option(
    "-B",
    "--bulk-submit",
    "folders",
    multiple=True,
    metavar="PATH",
    help="Write one job for each workflow file in PATH: a file, a directory or a pattern; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written and submitted as JSON.")
@click.option("--sflow-version", metavar="REF", hidden=True)
@click.option(
    "--sflow-index-url", "--sflow-source-path", "elsewhere", metavar="PLACE", multiple=True, hidden=True
)
def batch(
    workflow: tuple[Path, ...],
    files: tuple[Path, ...],
    script_path: Path | None,
    bulk_input: Path | None,
    rows: tuple[str, ...],
    folders: tuple[str, ...],
    sflow_version: str | None,
    elsewhere: tuple[str, ...],
    as_json: bool,
    **others: Any,
) -> int:
    """Write a Slurm batch script that runs a workflow, after checking that the workflow can be planned.

    The job runs this installation and ends with the run's exit status. Nodes, GPUs, partition, account and time come
    from the file's slurm backend unless options override them.
    """
    if stands_by():
        return 0
    is_bulk = bulk_input is not None or bool(folders)
    has_chain = others["chain"] is not None or others["until_done"]
    _check_combination(bulk_input, rows, folders, script_path, sflow_version, others["submit"], has_chain)
    if elsewhere:
        print_warning(
            "--sflow-index-url and --sflow-source-path have no effect: the job runs this installation"
        )
    options = batch_options(**others)
    if options.is_array and not is_bulk:
        raise _usage("--array is for many rows or files", "name a sheet with -b, or files with -B")
    if options.at_once is not None and not options.is_array:
        raise _usage("--at-once is for arrays", "add --array")
    given = (*workflow, *files)
    if not is_bulk:
        if as_json and script_path is None:
            raise _usage("--json is about what is written", "name the script with -o FILE")
        return _batch_one(options, given or (Path("sflow.yaml"),), script_path, as_json)
    from sflow_ctl.cli.sheets.batch_many import batch_files, batch_rows

    if bulk_input is not None:
        from sflow_ctl.cli.sheets.sheet_rows import open_sheet

        return batch_rows(options, open_sheet(bulk_input, rows, given), as_json)
    from sflow_ctl.runtime.files.workflow_files import find_workflow_files

    return batch_files(options, find_workflow_files([*folders, *map(str, given)]), as_json)


def _check_combination(
    bulk_input: Path | None,
    rows: tuple[str, ...],
    folders: tuple[str, ...],
    script_path: Path | None,
    sflow_version: str | None,
    is_submitted: bool,
    has_chain: bool,
) -> None:
    is_bulk = bulk_input is not None or bool(folders)
    if sflow_version is not None:
        raise _usage(
            "--sflow-version installs nothing",
            "install that version beforehand and name it with --sflow-venv-path",
        )
    if bulk_input is not None and folders:
        raise _usage("-b and -B exclude each other", "call batch twice")
    if rows and bulk_input is None:
        raise _usage("--row needs a sheet", "name the sheet with -b CSV")
    if script_path is not None and is_bulk:
        raise _usage(
            "-o is for one script",
            "-b and -B write into a new directory of the output directory: --output-dir",
        )
    if has_chain and not is_bulk and script_path is None:
        raise _usage("a chain needs a script that its jobs can submit", "write it with -o FILE")
    if is_submitted and not is_bulk and script_path is None:
        raise _usage("--submit needs a script", "write it with -o FILE")


def _usage(what: str, hint: str) -> UsageError:
    return UsageError.of("options", what, hint=hint)


def _batch_one(
    options: BatchOptions, files: tuple[Path, ...], script_path: Path | None, as_json: bool
) -> int:
    from sflow_ctl.cli.sheets.batch_job import (
        JobChoice,
        prepare,
    )
    from sflow_ctl.cli.sheets.job_files import (
        attach_command,
        log_of,
        make_log_directories,
        submit_job,
        write_job,
    )

    choice = JobChoice(
        files=files,
        overrides=options.overrides,
        artifacts=options.artifacts,
        missable=options.missable,
        name=options.job_name,
        nodes=options.nodes,
    )
    job = prepare(options, choice)
    print_warnings(job.warnings)
    make_log_directories(job)
    if script_path is None:
        for file in files:
            if not file.is_file():  # a pipe: the job could not read it again
                hint = "write the script with -o FILE: the workflow is stored beside it"
                raise UsageError.of("options", f"{file} is not a file that a job can read", str(file), hint)
        script = job.script
        if SECRETS.mask.text(script) != script:
            what = "the script would have the value of a secret on a command line, which every user of its node can see"
            hint = "write it with -o FILE: the values are then in a file beside it that only you can read"
            raise UsageError.of("secret-on-command-line", what, hint=hint)
        print_document(script)
        return 0
    composed = _beside(script_path, files)
    write_job(job, script_path, composed)
    if as_json:
        from sflow_ctl.cli.sheets.batch_many import BatchReport, batch_entry

        number = submit_job(script_path) if options.submit else None
        print_json(BatchReport(jobs=(batch_entry(script_path.stem, script_path, composed, number),)))
        return 0
    print_line(f"✓ Saved to {display_path(script_path)}; the workflow as one file: {display_path(composed)}")
    if options.submit:
        job_id = submit_job(script_path)
        print_line(f"✓ Submitted job {job_id}\n  Log:    {log_of(job, job_id)}")
        print_line(f"  Attach: {attach_command(options.output_dir, job_id)}")
    return 0


def _beside(script_path: Path, files: tuple[Path, ...]) -> Path:
    """Return the path of the composed file: beside the script, and never over a file that the job reads."""
    plain = script_path.with_suffix(".yaml")
    is_taken = any(
        plain.absolute() == file.absolute() or _is_same(plain, file) for file in (*files, script_path)
    )
    return script_path.with_suffix(".composed.yaml") if is_taken else plain


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
