"""The CSV file that many jobs come from: its columns, its rows, and the position of each cell."""

import csv
import io
from collections.abc import Sequence

from msgspec import Struct

from protocol.errors import Finding, UsageError
from sflow_ctl.format.checking import nearest

FILES = "sflow_config_file"
JOB_NAME = "job_name"
MISSABLE = "missable_tasks"
RESERVED = (FILES, JOB_NAME, MISSABLE)
NODE_COLUMNS = ("SLURM_NODES", "NUM_SLURM_NODES", "NUM_NODES")


class Row(Struct, frozen=True):
    """One row.

    `number` counts from 1, `line` is its first line in the file; cells are as written, without blanks around.
    """

    number: int
    line: int
    cells: dict[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        """Return the workflow files it names."""
        return tuple(self.cells[FILES].split())


class Sheet(Struct, frozen=True):
    """A CSV file. `name` is its name in messages."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def where(self, row: Row, column: str | None = None) -> str:
        """Return `sheet.csv:3 row 2, column PORT`."""
        return f"{self.name}:{row.line}  row {row.number}" + (f", column {column}" if column else "")


def read_sheet(name: str, text: str) -> Sheet:
    """Return the sheet in a CSV text. Raises: UsageError with every finding."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=_separator(text), strict=True, skipinitialspace=True
    )
    records: list[tuple[int, list[str]]] = []
    try:
        begin = 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((begin, [cell.strip() for cell in cells]))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise UsageError.of("csv-syntax", f"not valid CSV: {error}", f"{name}:{reader.line_num}") from error
    if not records:
        raise UsageError.of(
            "csv-empty", f"{name} is empty", name, f"the first line names the columns: {FILES},..."
        )
    columns = tuple(records[0][1])
    rows = tuple(
        Row(number, line, dict(zip(columns, [*cells, *[""] * (len(columns) - len(cells))], strict=False)))
        for number, (line, cells) in enumerate(records[1:], 1)
    )
    sheet = Sheet(name, columns, rows)
    findings = [*_header_findings(name, records[0][0], columns)]
    if not findings:
        for row, (_, cells) in zip(rows, records[1:], strict=True):
            findings += _row_findings(sheet, row, cells)
        if not rows:
            findings.append(Finding("csv-empty", f"{name} has no rows", name, "add a row for each job"))
    if findings:
        raise UsageError(findings)
    return sheet


def _separator(text: str) -> str:
    """Return what separates the columns: spreadsheets of some countries write semicolons, and copies of cells have tabs."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return next((one for one in (";", "\t") if one in header and "," not in header), ",")


def check_columns(sheet: Sheet, known: Sequence[str]) -> None:
    """Check that every other column is in `known`, the names in any row's files. Raises: UsageError."""
    findings = []
    for column in sheet.columns:
        if column in RESERVED or column in NODE_COLUMNS or column in known:
            continue
        guess = nearest(column, [*known, *RESERVED])
        findings.append(
            Finding(
                "csv-column",
                f'column "{column}" is not a variable or artifact of any row\'s files',
                f"{sheet.name}:1  column {column}",
                f'did you mean "{guess}"?' if guess else "define it in a workflow file, or remove the column",
            )
        )
    if findings:
        raise UsageError(findings)


def _header_findings(name: str, line: int, columns: tuple[str, ...]) -> list[Finding]:
    findings = []
    if FILES not in columns:
        guess = nearest(FILES, columns)
        hint = f'rename column "{guess}"' if guess else f"add a column {FILES}: the workflow files of a row"
        findings.append(Finding("csv-column", f'column "{FILES}" is missing', f"{name}:{line}", hint))
    for index, column in enumerate(columns):
        where = f"{name}:{line}  column {index + 1}"
        if not column:
            findings.append(
                Finding("csv-column", "a column has no name", where, "name it, or remove the column")
            )
        elif column in columns[:index]:
            what = f'two columns are called "{column}"'
            findings.append(Finding("csv-column", what, where, "remove one of them"))
    return findings


def _row_findings(sheet: Sheet, row: Row, cells: list[str]) -> list[Finding]:
    if len(cells) > len(sheet.columns):
        what = f"{len(cells)} cells, but {len(sheet.columns)} columns"
        return [Finding("csv-row", what, sheet.where(row), "put cells that hold a comma in quotes")]
    if not row.files:
        return [Finding("csv-row", "the row names no workflow file", sheet.where(row, FILES), "name one")]
    return []
