"""Prints `report.tables.Table`.

A terminal gets rich's layout: colours, the width of wide characters, names cut where there is no room. A pipe or
file gets aligned columns and every name in full. rich is imported only for a terminal: the import takes 35 ms,
which would be a fifth of a short run's whole time in a script.
"""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from protocol.text.ansi import printable_line
from sflow_ctl.cli.terminal.columns import cells_of, columns
from sflow_ctl.cli.terminal.lines import print_line, write
from sflow_ctl.cli.terminal.paint import stdout_wants_colours
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.tables import Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

MIN_NAME_WIDTH = 12
"""A column of names is not cut to less."""
GAP = 2


def print_table(table: Table) -> None:
    """Print a table and its notes to standard output."""
    width = columns()
    safe = replace(table, headings=_cells(table.headings), rows=tuple(map(_cells, table.rows)))
    if table.rows:
        if width is None:
            write(plain_text(safe))
        else:
            write(terminal_text(safe, width, colours=stdout_wants_colours()))
    for note in table.notes:
        print_line(note)


def _cells(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Return cells without control characters; a newline or tab in one would break the table."""
    return tuple(printable_line(SECRETS.mask.text(cell)) for cell in cells)  # before they are cut


def plain_text(table: Table) -> str:
    """Return the rows in aligned columns, without limits and colours."""
    lines = [table.headings, *table.rows]
    widths = [max(cells_of(line[index]) for line in lines) for index in range(len(table.headings))]
    is_right = [heading in table.right for heading in table.headings]
    gap = " " * GAP
    return "\n".join(
        gap.join(
            f"{' ' * (width - cells_of(cell))}{cell}" if right else f"{cell}{' ' * (width - cells_of(cell))}"
            for cell, width, right in zip(line, widths, is_right, strict=True)
        ).rstrip()
        for line in lines
    )


def terminal_text(table: Table, width: int, *, colours: bool) -> str:
    """Return the rows laid out by rich for a terminal of `width` columns."""
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    console = Console(
        file=out,
        width=width,
        color_system="standard" if colours else None,
        force_terminal=colours,
        legacy_windows=False,
    )
    console.print(
        _rich_table(_fitting(table, width)), markup=False, highlight=False, emoji=False, soft_wrap=False
    )
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))


def _fitting(table: Table, width: int) -> Table:
    """Leave out columns until the others fit; a number that is cut looks like another number, and a row needs its name.

    The first are those that can be spared, then those on the right; the first two columns stay.
    """
    others = [one for one in table.headings[:1:-1] if one not in table.spare]
    for heading in (*(one for one in table.spare if one in table.headings[2:]), *others):
        kept = [index for index, one in enumerate(table.headings) if one != heading]
        # rich adds the gap to the least width of the last column as well, and crops that without an ellipsis
        needed = GAP * (len(table.headings) - (table.headings[-1] not in table.shrinks))
        for index, one in enumerate(table.headings):
            longest = _longest(table, index)
            needed += min(longest, MIN_NAME_WIDTH) if one in table.shrinks else longest
        if needed <= width:
            break
        table = replace(
            table,
            headings=tuple(table.headings[index] for index in kept),
            rows=tuple(tuple(row[index] for index in kept) for row in table.rows),
        )
    return table


def _longest(table: Table, index: int) -> int:
    """Return the width of a column's longest cell."""
    return max(cells_of(table.headings[index]), *(cells_of(row[index]) for row in table.rows))


def _rich_table(table: Table) -> "RichTable":
    from rich.table import Table as RichTable
    from rich.text import Text

    laid_out = RichTable(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for index, heading in enumerate(table.headings):
        longest = _longest(table, index)
        shrinks = heading in table.shrinks
        laid_out.add_column(
            Text(heading),
            justify="right" if heading in table.right else "left",
            no_wrap=not shrinks,  # rich shrinks columns that may wrap first
            min_width=min(longest, MIN_NAME_WIDTH) if shrinks else longest,
            overflow="ellipsis",
        )
    colours = table.colours or (None,) * len(table.rows)
    for row, colour in zip(table.rows, colours, strict=True):
        laid_out.add_row(
            *(
                Text(cell, style=colour if colour and heading == table.painted else "")
                for heading, cell in zip(table.headings, row, strict=True)
            )
        )
    return laid_out
