"""The four lists of the full-screen view. Each draws only what has changed."""

import time
from collections.abc import Iterable, Mapping, Sequence

from rich.text import Text
from textual.coordinate import Coordinate
from textual.widgets import DataTable

from protocol.text.ansi import printable_line
from sflow_ctl.cli.tui.feed import clock_text
from sflow_ctl.core.states import Transition
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.screen.graph_lines import graph_lines
from sflow_ctl.report.screen.node_rows import gpu_map_text, node_rows, tasks_text
from sflow_ctl.report.screen.task_rows import TaskRow, Usage, task_list
from sflow_ctl.report.transition_text import transition_text

Cells = tuple[Text, ...]
BESIDE_A_NAME = 24
"""Columns that are left for the state and the time of a task, however long its name is."""
LEAST_NAME, LAST_LETTERS = 14, 4
"""Of a name that is cut: its shortest form, and how much of its end, where replicas have their numbers, is kept."""


def short_name(name: str, width: int) -> str:
    """Return a task's name for a screen of this width."""
    room = max(LEAST_NAME, width - BESIDE_A_NAME)
    return name if len(name) <= room else f"{name[: room - LAST_LETTERS - 1]}\u2026{name[-LAST_LETTERS:]}"


def cell(text: str, style: str | None = None) -> Text:
    """Return text for a cell: masked, on one line, in a colour."""
    return Text(printable_line(SECRETS.mask.text(text)), style=style or "", no_wrap=True, end="")


class NamedRows(DataTable[Text]):
    """A list whose rows have names."""

    HEADINGS: Sequence[str] = ()

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", show_row_labels=False, cell_padding=1)
        self._drawn: dict[str, Cells] = {}
        self._to_choose: str | None = None
        self._headings: tuple[str, ...] = ()

    def show(self, headings: Sequence[str], rows: Mapping[str, Cells]) -> None:
        """Show these rows; only cells that differ are drawn again while rows and columns stay the same."""
        if tuple(headings) != self._headings or list(rows) != list(self._drawn):
            self._rebuild(headings, rows)
        elif rows != self._drawn:
            self._update(rows)
        if self._to_choose in self._drawn:
            self.move_cursor(row=list(self._drawn).index(self._to_choose))
            self._to_choose = None

    def choose(self, name: str) -> None:
        """Put the cursor on a row, once it is there."""
        self._to_choose = name

    def _update(self, rows: Mapping[str, Cells]) -> None:
        for at, (name, cells) in enumerate(rows.items()):
            for column, (old, new) in enumerate(zip(self._drawn[name], cells, strict=True)):
                if old != new:
                    self.update_cell_at(Coordinate(at, column), new, update_width=True)
        self._drawn = dict(rows)
        self._draw_again()

    def _rebuild(self, headings: Sequence[str], rows: Mapping[str, Cells]) -> None:
        names = list(self._drawn)
        chosen = names[self.cursor_row] if 0 <= self.cursor_row < len(names) else None
        if tuple(headings) == self._headings:
            self.clear()
        else:
            self.clear(columns=True)
            self.add_columns(*headings)
        for name, cells in rows.items():
            self.add_row(*cells, key=name)
        self._headings, self._drawn = tuple(headings), dict(rows)
        if chosen is not None and self._to_choose is None:
            self._to_choose = chosen
        self._draw_again()

    def _draw_again(self) -> None:
        """Draw lines again once columns have their new widths: textual keeps what it has drawn before it measured them."""
        self.call_after_refresh(self.notify_style_update)


class TaskTable(NamedRows):
    """The tasks."""

    def draw(
        self, state: RunView, words: str, pinned: Mapping[str, None], usage: Mapping[str, Usage]
    ) -> None:
        """Show the tasks that fit the words of the filter."""
        listed = task_list(state, time.time_ns(), words, usage)
        rows = listed.rows
        has_usage = any(row.cpu or row.memory for row in rows)
        has_gpus = any(row.gpus != "-" for row in rows)
        headings = ["TASK", "STATE", "TIME", "TRY"]
        headings += ["NODE"] if len(state.plan.nodes) > 1 else []
        headings += ["GPUS"] if has_gpus else []
        headings += ["CPU", "MEM"] if has_usage else []
        headings += ["GPU%"] if has_usage and has_gpus else []
        cells = {row.name: self._cells(row, headings, row.name in pinned) for row in rows}
        self.show([*headings, "WHY"], cells)
        self.border_subtitle = f"and {listed.left_out} more: / filters" if listed.left_out else ""

    def _cells(self, row: TaskRow, headings: Sequence[str], is_pinned: bool) -> Cells:
        name = short_name(row.name, self.app.size.width)
        values = {
            "TASK": cell(f"* {name}" if is_pinned else name),
            "STATE": cell(row.state, row.colour),
            "TIME": cell(row.duration),
            "TRY": cell(row.attempts),
            "NODE": cell(row.node),
            "GPUS": cell(row.gpus),
            "CPU": cell(row.cpu),
            "MEM": cell(row.memory),
            "GPU%": cell(row.gpu_use),
        }
        return (*(values[heading] for heading in headings), cell(row.detail))


class NodeTable(NamedRows):
    """The nodes and the map of their GPUs."""

    def draw(
        self,
        state: RunView,
        joined: frozenset[int],
        lost: Mapping[int, str],
        standing_still: Mapping[str, str],
    ) -> None:
        """Show all nodes."""
        rows = {
            row.name: (
                cell(row.name),
                cell(row.state, "red" if row.state == "lost" else None),
                cell(str(len(row.tasks))),
                cell(gpu_map_text(row)),
                cell(row.detail or tasks_text(row)),
            )
            for row in node_rows(state, joined, lost, standing_still)
        }
        self.show(("NODE", "STATE", "TASKS", "GPUS", "WHAT"), rows)


class GraphTable(NamedRows):
    """The graph."""

    def draw(self, state: RunView) -> None:
        """Show tasks below what they wait for."""
        rows = {
            line.base: (cell("  " * line.depth + line.text, line.colour), cell(line.waits))
            for line in graph_lines(state)
        }
        self.show(("TASK", "ALSO WAITS FOR"), rows)


class EventTable(NamedRows):
    """The changes of state, the newest first."""

    def draw(self, changes: Iterable[tuple[int, Transition]]) -> None:
        """Show the last changes."""
        rows = {
            f"{at}-{number}": (cell(clock_text(at)), cell(transition_text(change)))
            for number, (at, change) in enumerate(changes)
        }
        self.show(("TIME", "CHANGE"), dict(reversed(rows.items())))
