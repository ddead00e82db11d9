"""The log pane: lines of one or several tasks, with follow, search and filter. Keeps a limited number of lines."""

from collections import deque
from collections.abc import Collection

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from sflow_ctl.cli.tui.feed import LogLine

MAX_LINES = 20_000
PREFIX_COLOURS = ("cyan", "magenta", "blue", "green", "yellow")
_MARKED = Style(reverse=True)
_ROOM = 1_000
"""So many lines are forgotten at once."""


class LogView(ScrollView, can_focus=True):
    """Lines with the names of their tasks before them, if they are of several."""

    DEFAULT_CSS = "LogView { scrollbar-gutter: auto; }"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._lines: deque[LogLine] = deque()
        self._shown: list[LogLine] = []
        self._words = ""
        self._pattern = ""
        self._labels: dict[str, None] = {}
        self._widest = 0
        self.is_following = True

    @property
    def shown(self) -> list[LogLine]:
        """The lines that fit the filter."""
        return self._shown

    def keep(self, labels: Collection[str]) -> None:
        """Forget the lines of all other tasks."""
        self._lines = deque(line for line in self._lines if line.label in labels)
        self._labels = dict.fromkeys(line.label for line in self._lines)
        self._show_all()

    def add(self, lines: list[LogLine]) -> None:
        """Add lines at the end; in follow mode they are scrolled to."""
        if not lines:
            return
        self._lines.extend(lines)
        labels = len(self._labels)
        self._labels.update(dict.fromkeys(line.label for line in lines))
        if len(self._lines) > MAX_LINES + _ROOM or labels == 1 < len(self._labels):
            while len(self._lines) > MAX_LINES:
                self._lines.popleft()
            self._show_all()
            return
        fresh = [line for line in lines if self._fits(line)]
        if fresh:
            self._shown += fresh
            self._resize(fresh)

    def filter(self, words: str) -> None:
        """Show only lines that contain the words; all for an empty text."""
        self._words = words.lower()
        self._show_all()

    def search(self, text: str) -> bool:
        """Mark a text and go to its next place above; begin again at the end. Return False if there is none."""
        self._pattern = text.lower()
        at = self.scroll_offset.y if not self.is_following else len(self._shown)
        order = [*range(at - 1, -1, -1), *range(len(self._shown) - 1, at - 1, -1)]
        self.refresh()
        for index in order:
            if self._pattern and self._pattern in self._shown[index].text.lower():
                self.is_following = False
                self.scroll_to(y=index, animate=False)
                return True
        return False

    def follow(self) -> None:
        """Go to the end, and stay there."""
        self.is_following = True
        self.scroll_end(animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow again once the end is reached."""
        super().watch_scroll_y(old_value, new_value)
        if new_value >= self.max_scroll_y:
            self.is_following = True

    def action_scroll_up(self) -> None:
        """Go up a line, and follow no longer."""
        self.is_following = False
        super().action_scroll_up()

    def action_page_up(self) -> None:
        """Go up a page, and follow no longer."""
        self.is_following = False
        super().action_page_up()

    def action_scroll_home(self) -> None:
        """Go to the first line, and follow no longer."""
        self.is_following = False
        super().action_scroll_home()

    def on_mouse_scroll_up(self) -> None:
        """Follow no longer when the wheel turns up."""
        self.is_following = False

    def render_line(self, y: int) -> Strip:
        """Return one line of what is visible."""
        x, top = self.scroll_offset
        index = top + y
        style = self.rich_style
        if index >= len(self._shown):
            return Strip.blank(self.size.width, style)
        line = self._shown[index]
        segments = [*self._prefix(line, style), *self._marked(line.text, style)]
        return Strip(segments).crop_extend(x, x + self.size.width, style)

    def _prefix(self, line: LogLine, style: Style) -> list[Segment]:
        if len(self._labels) < 2:
            return []
        width = max(map(len, self._labels))
        colour = PREFIX_COLOURS[list(self._labels).index(line.label) % len(PREFIX_COLOURS)]
        return [Segment(f"{line.label:<{width}} | ", style + Style(color=colour))]

    def _marked(self, text: str, style: Style) -> list[Segment]:
        if not self._pattern:
            return [Segment(text, style)]
        segments, start, small = [], 0, text.lower()
        while (at := small.find(self._pattern, start)) >= 0:
            end = at + len(self._pattern)
            segments += [Segment(text[start:at], style), Segment(text[at:end], style + _MARKED)]
            start = end
        return [*segments, Segment(text[start:], style)]

    def _fits(self, line: LogLine) -> bool:
        return not self._words or self._words in line.text.lower()

    def _show_all(self) -> None:
        self._shown = [line for line in self._lines if self._fits(line)]
        self._widest = 0
        self._resize(self._shown)

    def _resize(self, fresh: list[LogLine]) -> None:
        prefix = max(map(len, self._labels), default=0) + 3
        self._widest = max(self._widest, *(len(line.text) + prefix for line in fresh), 0)
        self.virtual_size = Size(self._widest, len(self._shown))
        if self.is_following:
            self.scroll_end(animate=False)
        self.refresh()
