"""A sheet's rows for `batch -b` and `compose -b`: reads, selects, and combines each with the command line."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from protocol.errors import SpecError, UsageError
from sflow_ctl.batch.row_options import RowOptions, row_files, row_options
from sflow_ctl.batch.row_selection import selected_rows
from sflow_ctl.batch.sheet import Row, Sheet, check_columns, read_sheet
from sflow_ctl.format.defined_names import DefinedNames, defined_names
from sflow_ctl.format.yaml_source import not_utf_8


class SheetRows(Struct, frozen=True):
    """A sheet and its selected rows."""

    sheet: Sheet
    directory: Path
    """The directory that the rows' files are relative to."""
    first: tuple[Path, ...]
    """Files of the command line: they come before a row's."""
    chosen: tuple[Row, ...]

    def options(
        self, row: Row, overrides: Sequence[str], artifacts: Sequence[str], missable: Sequence[str]
    ) -> RowOptions:
        """Return a row combined with the command line. Raises: UsageError, SpecError."""
        files = row_files(row, self.directory, self.first)
        names = defined_names(files)
        return row_options(
            self.sheet,
            row,
            files=files,
            variables=names.variables,
            artifacts=names.artifacts,
            overrides=overrides,
            artifact_overrides=artifacts,
            missable=missable,
        )


def open_sheet(path: Path, selections: Sequence[str], first: Sequence[Path]) -> SheetRows:
    """Read a sheet and check its columns. Raises: UsageError with every finding."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise UsageError.of("file-not-readable", what, str(path)) from error
    except UnicodeDecodeError as error:
        line, column, why = not_utf_8(error)
        where = f"{path}:{line}:{column}"
        raise UsageError.of("file-not-readable", f"{path} {why}", where, "save it as UTF-8") from error
    sheet = read_sheet(str(path), text)
    numbers = set(selected_rows(selections, len(sheet.rows)))
    rows = SheetRows(
        sheet, path.parent, tuple(first), tuple(row for row in sheet.rows if row.number in numbers)
    )
    known = _known_names({row_files(row, rows.directory, first) for row in sheet.rows})
    if known is not None:
        check_columns(sheet, [*known.variables, *known.artifacts])
    return rows


def _known_names(groups: Iterable[tuple[Path, ...]]) -> DefinedNames | None:
    """Return the names in all rows' files; None if one cannot be read, which is a failure of its rows."""
    variables: set[str] = set()
    artifacts: set[str] = set()
    for files in groups:
        try:
            names = defined_names(files)
        except SpecError:
            return None
        variables |= names.variables
        artifacts |= names.artifacts
    return DefinedNames(frozenset(variables), frozenset(artifacts))
