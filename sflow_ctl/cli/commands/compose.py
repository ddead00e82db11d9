"""`sflow-ctl compose`: several files as one, overrides applied; or one for each row of a sheet."""

from pathlib import Path
from typing import Any

import click

from protocol.errors import ExitStatus, FleetError, UsageError
from sflow_ctl.cli.options.workflow_options import run_options, workflow_options
from sflow_ctl.runtime.run.options import RunOptions

_PATH = click.Path(path_type=Path)


@click.command()
@workflow_options
@click.option(
    "-o", "--output", type=_PATH, help="Default: standard output; with -b the directory sflow_output."
)
@click.option(
    "-r", "--resolve", is_flag=True, help="Replace what has one certain value; the plan stays the same."
)
@click.option(
    "-vl", "--validate", is_flag=True, help="Also say whether it can be planned; the file is written anyway."
)
@click.option("-b", "--bulk-input", type=_PATH, metavar="CSV", help="A file for each row of this sheet.")
@click.option("--row", "rows", multiple=True, metavar="SEL", help="Only these rows: 3, 1,3, 1:4 or 1:6:2.")
def compose(
    output: Path | None,
    resolve: bool,
    validate: bool,
    bulk_input: Path | None,
    rows: tuple[str, ...],
    **options: Any,
) -> int:
    """Merge workflow files into one. Says what is wrong with the result, if anything is."""
    if bulk_input is None:
        if rows:
            raise UsageError.of("options", "--row chooses rows of a sheet", hint="name the sheet with -b CSV")
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
        source.files, source.overrides, source.artifacts, source.missable, is_strict=source.is_strict
    )
    text = composed(loaded, resolve)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text)
        click.echo(f"✓ Saved to {output}")
    return _validate(chosen) if validate else int(ExitStatus.OK)


def _validate(chosen: RunOptions) -> int:
    """Says on standard error, so that the file can go to standard output, whether a run could be planned."""
    from sflow_ctl.cli.terminal.lines import print_findings
    from sflow_ctl.runtime.run.planning import plan_run, read_run

    try:
        plan_run(read_run(chosen), chosen, is_dry=True)
    except FleetError as error:
        print_findings(error)
        return int(error.exit_status)
    click.echo("✓ Configuration is valid", err=True)
    return int(ExitStatus.OK)
