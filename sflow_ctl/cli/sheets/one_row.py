"""`run -b CSV --row N`: runs one row of a sheet."""

from pathlib import Path

from msgspec.structs import replace

from protocol.errors import UsageError
from sflow_ctl.cli.sheets.sheet_rows import open_sheet
from sflow_ctl.cli.terminal.lines import print_warning
from sflow_ctl.runtime.run.options import RunOptions


def with_row(options: RunOptions, sheet: Path | None, selections: tuple[str, ...]) -> RunOptions:
    """Return the options with those of the chosen row. Raises: UsageError unless it is exactly one."""
    if sheet is None or not selections:
        what = "--row needs --bulk-input" if sheet is None else "--bulk-input needs --row"
        raise UsageError.of("options", what, hint="run one row of a sheet: -b CSV --row N")
    source = options.workflow
    rows = open_sheet(sheet, selections, source.files if source.are_files_given else ())
    if len(rows.chosen) != 1:
        what = f"--row {' '.join(selections)} selects {len(rows.chosen)} rows, and run takes one"
        raise UsageError.of("row-selection", what, hint="`sflow-ctl batch -b` writes a job for each row")
    chosen = rows.options(rows.chosen[0], source.overrides, source.artifacts, source.missable)
    for note in chosen.notes:
        print_warning(note)
    workflow = replace(
        source,
        files=chosen.files,
        are_files_given=True,
        overrides=chosen.overrides,
        artifacts=chosen.artifacts,
        missable=chosen.missable,
    )
    return replace(options, workflow=workflow)
