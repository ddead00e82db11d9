"""`compose -b`: one file for each row of a sheet."""

from pathlib import Path

from protocol.errors import ExitStatus, FleetError, UsageError
from sflow_ctl.batch.names import row_name
from sflow_ctl.batch.row_options import row_nodes
from sflow_ctl.batch.sheet import Row
from sflow_ctl.cli.sheets.sheet_rows import SheetRows
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.findings import print_findings, print_warnings
from sflow_ctl.cli.terminal.lines import print_line, print_warning
from sflow_ctl.format.compose import compose
from sflow_ctl.format.loader import load_documents
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.files.documents import write_document
from sflow_ctl.runtime.files.stamped_directory import stamped_directory

DEFAULT_NAME = "sflow"


def compose_rows(
    rows: SheetRows,
    parent: Path,
    overrides: tuple[str, ...],
    artifacts: tuple[str, ...],
    missable: tuple[str, ...],
    is_resolved: bool,
) -> int:
    """Write the files into a new directory in `parent`; return 1 if a row failed, after listing it."""
    if parent.exists() and not parent.is_dir():
        what = f"{parent} is a file"
        raise UsageError.of(
            "not-a-directory", what, str(parent), "with -b, -o names the parent directory of the files"
        )
    directory = stamped_directory(parent, "compose")
    failed = 0
    for row in rows.chosen:
        try:
            path = (
                directory
                / f"{row_name(rows.sheet, row, row_nodes(rows.sheet, row, overrides), DEFAULT_NAME)}.yaml"
            )
            text = _composed(rows, row, overrides, artifacts, missable, is_resolved)
            write_document(path, text, is_private=bool(SECRETS.mask))
        except FleetError as error:
            failed += 1
            print_line(f"✗ {rows.sheet.where(row)}", err=True)
            print_findings(error)
        else:
            print_line(f"✓ Saved to {display_path(path)}")
    if failed:
        print_line(f"✗ {failed} of {len(rows.chosen)} rows failed", err=True)
    return int(ExitStatus.RUN_FAILED if failed else ExitStatus.OK)


def _composed(
    rows: SheetRows,
    row: Row,
    overrides: tuple[str, ...],
    artifacts: tuple[str, ...],
    missable: tuple[str, ...],
    is_resolved: bool,
) -> str:
    chosen = rows.options(row, overrides, artifacts, missable)
    loaded = load_documents(chosen.files, chosen.overrides, chosen.artifacts, chosen.missable)
    for note in chosen.notes:
        print_warning(note)
    print_warnings(loaded.warnings)
    return compose(loaded, is_resolved)
