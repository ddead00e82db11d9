"""Turns a row into options of a command: its files, overrides, artifacts, missable tasks, nodes."""

from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec import Struct

from protocol.errors import UsageError
from sflow_ctl.batch.sheet import FILES, MISSABLE, NODE_COLUMNS, RESERVED, Row, Sheet
from sflow_ctl.planner.numbers import NumberError, as_int


class RowOptions(Struct, frozen=True):
    """A row, combined with the command line. `notes` list the settings that one has overruled in the other."""

    files: tuple[Path, ...]
    overrides: tuple[str, ...]
    artifacts: tuple[str, ...]
    missable: tuple[str, ...]
    notes: tuple[str, ...]


def row_files(row: Row, directory: Path, first: Sequence[Path]) -> tuple[Path, ...]:
    """Return the files of the command line, then the row's, relative to the sheet's directory; each once."""
    return tuple(dict.fromkeys([*first, *(directory / file for file in row.files)]))


def row_options(
    sheet: Sheet,
    row: Row,
    *,
    files: tuple[Path, ...],
    variables: Collection[str],
    artifacts: Collection[str],
    overrides: Sequence[str],
    artifact_overrides: Sequence[str],
    missable: Sequence[str],
) -> RowOptions:
    """Return a row's cells as overrides.

    `--set` and `--artifact` win over a cell; an empty cell has no effect.

    `variables` and `artifacts` are the names in the row's files.

    Raises: UsageError for a cell that sets neither.
    """
    notes: list[str] = []
    pointed = {text.partition("=")[0] for text in artifact_overrides}
    given = {text.partition("=")[0].strip(): text for text in overrides}
    set_here: dict[str, str] = {}
    uris: list[str] = []
    for column, cell in row.cells.items():
        if not cell or column in RESERVED:
            continue
        if column in variables and column in given:
            notes.append(f"{sheet.where(row, column)}: --set {given[column]} wins over the cell")
        elif column in variables:
            set_here[column] = f"{column}={cell}"
        elif column in artifacts:
            if column in pointed:
                notes.append(f"{sheet.where(row, column)}: --artifact {column} wins over the cell")
            else:
                uris.append(f"{column}={cell}")
        elif column not in NODE_COLUMNS:
            what = f'"{column}" is not a variable or artifact of this row\'s files'
            hint = f"leave the cell empty, or add a file with it to {FILES}"
            raise UsageError.of("csv-column", what, sheet.where(row, column), hint)
    absent = (*missable, *row.cells.get(MISSABLE, "").split())
    return RowOptions(
        files, (*overrides, *set_here.values()), (*artifact_overrides, *uris), absent, tuple(notes)
    )


def row_nodes(sheet: Sheet, row: Row, overrides: Sequence[str] = ()) -> int | None:
    """Return the number of nodes in a node column, if there is one; `--set` wins over it. Raises: UsageError."""
    given = {name.strip(): value for name, _, value in (text.partition("=") for text in overrides)}
    for column in NODE_COLUMNS:
        cell = given.get(column, row.cells.get(column)) if column in row.cells else None
        if cell:
            try:
                return as_int(cell, 1)
            except NumberError as error:
                where = sheet.where(row, column)
                raise UsageError.of("wrong-value", f"{column} {error}", where, "write a number") from error
    return None
