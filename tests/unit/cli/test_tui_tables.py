"""Lists of the full-screen view, without a run."""

import asyncio

from textual.app import App, ComposeResult

from sflow_ctl.cli.tui.tables import NamedRows, cell


class OneList(App[None]):
    """A screen with one list."""

    def compose(self) -> ComposeResult:
        yield NamedRows(id="list")


def drawn(table: NamedRows) -> list[str]:
    return [table.render_line(y).text.rstrip() for y in range(table.row_count + 1)]


def test_lines_that_were_drawn_before_columns_are_measured_are_drawn_again() -> None:
    async def act() -> None:
        app = OneList()
        async with app.run_test() as pilot:
            table = app.query_one(NamedRows)
            for names in (("a long name", "another"), ("a long name", "one that is even longer")):
                table.show(
                    ("TASK", "STATE"), {str(at): (cell(name), cell("up")) for at, name in enumerate(names)}
                )
                drawn(table)  # as a terminal does that has just been resized
                await pilot.pause()
                assert [line.split("up")[0].strip() for line in drawn(table)[1:]] == list(names)

    asyncio.run(act())
