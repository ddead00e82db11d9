"""`sflow-ctl compose`: workflow files merged into one, with overrides applied; or one for each row of a sheet."""

from pathlib import Path
from typing import Any

import click

from protocol.errors import ExitStatus, FleetError, UsageError
from sflow_ctl.cli.options.given import run_options
from sflow_ctl.cli.options.sections import SectionedCommand
from sflow_ctl.cli.options.workflow_options import row_option, workflow_options
from sflow_ctl.cli.terminal.findings import print_warnings
from sflow_ctl.cli.terminal.lines import print_document, print_line
from sflow_ctl.runtime.files.documents import write_document
from sflow_ctl.runtime.run.options import RunOptions

_PATH = click.Path(path_type=Path)


@click.command(cls=SectionedCommand)
@workflow_options
@click.option(
    "-o",
    "--output",
    type=_PATH,
    help="File to write, with -b a directory. Default: standard output, with -b sflow_output.",
)
@click.option(
    "-r",
    "--resolve",
    is_flag=True,
    help="Replace expressions that have a fixed value; the plan stays the same.",
)
@click.option(
    "-vl",
    "--validate",
    is_flag=True,
    help="Also check that the result can be planned; it is written in any case.",
)
@click.option(
    "-b", "--bulk-input", type=_PATH, metavar="CSV", help="Write one file for each row of this sheet."
)
@row_option
def compose(
    output: Path | None,
    resolve: bool,
    validate: bool,
    bulk_input: Path | None,
    rows: tuple[str, ...],
    **options: Any,
) -> int:
    """Merge workflow files into one and apply overrides. Reports every mistake in the result."""
    if bulk_input is None:
        if rows:
            raise UsageError.of("options", "--row needs a sheet", hint="name the sheet with -b CSV")
        return _compose_one(run_options(**options), output, resolve, validate)
    if validate:
        hint = "sflow-ctl batch -b CSV plans every row"
        raise UsageError.of("options", "--validate is for one file", hint=hint)
    from sflow_ctl.cli.sheets.compose_rows import compose_rows
    from sflow_ctl.cli.sheets.sheet_rows import open_sheet

    chosen = run_options(**options)
    opened = open_sheet(bulk_input, rows, (*options["workflow"], *options["files"]))
    parent = output or Path("sflow_output")
    return compose_rows(
        opened,
        parent,
        chosen.workflow.overrides,
        chosen.workflow.artifacts,
        chosen.workflow.missable,
        resolve,
    )


def _compose_one(chosen: RunOptions, output: Path | None, resolve: bool, validate: bool) -> int:
    from sflow_ctl.format.compose import compose as composed
    from sflow_ctl.format.loader import load_documents

    source = chosen.workflow
    loaded = load_documents(
        source.files,
        source.overrides,
        source.artifacts,
        source.missable,
        compat=source.compat,
        refuses_ignored=source.refuses_ignored,
    )
    text = composed(loaded, resolve)
    print_warnings(loaded.warnings)
    if output is None:
        print_document(text, keeps_secrets=True)
    else:
        write_document(output, text, is_private=bool(loaded.document.secrets))
        print_line(f"✓ Saved to {output}")
    return _validate(chosen) if validate else int(ExitStatus.OK)


def _validate(chosen: RunOptions) -> int:
    """Report on standard error whether a run can be planned; standard output may hold the file."""
    from sflow_ctl.cli.terminal.findings import print_findings
    from sflow_ctl.runtime.run.planning import plan_run, read_run

    try:
        plan_run(read_run(chosen), chosen, is_dry=True)
    except FleetError as error:
        print_findings(error)
        return int(error.exit_status)
    print_line("✓ Configuration is valid", err=True)
    return int(ExitStatus.OK)
