"""Puts the output of many tasks on one stream: whole lines, each with its task's prefix.

Pure: bytes in, bytes out. Lines of different tasks never mix: an unfinished line waits for its newline, up to
a limit. For a terminal, control sequences (cursor movements, bells, the drawing of progress bars) are
removed by `protocol.text.ansi`, and the lines begin in one column; a pipe or file gets the bytes unchanged.
"""

from collections.abc import Callable, Iterable
from zlib import crc32

from protocol.text.ansi import printable_line, printable_output
from sflow_ctl.cli.terminal.columns import cells_of
from sflow_ctl.cli.terminal.shown_tasks import ErrorLines
from sflow_ctl.plan.model import PlannedTask

MAX_HELD_BYTES = 16 * 1024
"""The limit of an unfinished line. Beyond it the line is shown in parts."""
_COLOURS = (36, 32, 33, 34, 35, 96, 92, 93, 94, 95)
"""SGR numbers readable on dark and light: no red (failures), no white, no black."""


MAX_LABELS = 10_000
"""What is kept of labels is bounded, and cheap to make again."""
MAX_NAME = 48
"""Characters of a name in the prefix on a terminal. Longer ones lose their middle: names of sweeps differ at their end."""
MAX_WIDTH = 24
"""Of the column of prefixes: longer names take the room that they need."""


def prefix_width(tasks: Iterable[PlannedTask]) -> int:
    """Return the width of the column that the prefixes of these tasks share."""
    labels = (f"{task.name}.{task.world_size - 1}" if task.world_size > 1 else task.name for task in tasks)
    return max((width for label in labels if (width := cells_of(f"[{label}]")) <= MAX_WIDTH), default=0)


def colour_of(task: str) -> int:
    """Return the task's colour as an SGR number: the same in every run."""
    return _COLOURS[crc32(task.encode()) % len(_COLOURS)]


class LinePrefixer:
    """The state of one output stream.

    Unfinished lines per label, and whether the last line written is unfinished. Lines begin `width` columns from the left, if
    their prefix is not longer. Of labels that `has_errors_only` only lines about errors are written.
    """

    def __init__(
        self,
        *,
        is_terminal: bool,
        colours: bool,
        is_prefixed: bool = True,
        width: int = 0,
        has_errors_only: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._width = width
        self._has_errors_only = has_errors_only
        self._filters: dict[str, ErrorLines | None] = {}
        self._is_terminal = is_terminal
        self._is_prefixed = is_prefixed
        self._colours = colours
        self._held: dict[str, bytes] = {}
        self._prefixes: dict[str, bytes] = {}
        self._unfinished: str | None = None
        """The label whose overlong line the stream ends in; never on a terminal, where a status line follows.
        """

    def add(self, label: str, data: bytes | memoryview) -> bytes:
        """Return what to write now that `label` has written `data`; may be empty."""
        held = self._held.pop(label, b"")
        whole = b"".join((held, data)) if held else bytes(data)
        cut = whole.rfind(b"\n") + 1
        rest = whole[cut:]
        out = self._lines(label, whole[:cut]) if cut else b""
        if len(rest) > MAX_HELD_BYTES:
            out += self._part(label, rest)
        elif rest:
            self._held[label] = rest
        return out

    def end(self, label: str) -> bytes:
        """Return what to write at the end of `label`'s output: its unfinished line, finished."""
        held = self._held.pop(label, b"")
        if held:
            return self._lines(label, held + b"\n")
        if self._unfinished == label:
            return self.line_break()
        return b""

    def end_all(self) -> bytes:
        """Finish every unfinished line."""
        return b"".join([self.end(label) for label in [*self._held, self._unfinished] if label is not None])

    def line_break(self) -> bytes:
        """Return what must be written before text that does not belong to the unfinished line."""
        if self._unfinished is None:
            return b""
        self._unfinished = None
        return b"\n"

    def _lines(self, label: str, lines: bytes) -> bytes:
        """Return complete lines with their prefixes. `lines` ends with a newline."""
        errors = self._filter(label)
        if errors is not None:
            lines = errors.of(lines)
            if not lines:
                return b""
        if self._is_terminal:
            lines = printable_output(lines)
        prefix = self._prefix(label)
        if self._unfinished == label:
            self._unfinished, start = None, b""
        else:
            start = self.line_break() + prefix
        return start + lines[:-1].replace(b"\n", b"\n" + prefix) + b"\n"

    def _part(self, label: str, part: bytes) -> bytes:
        """Return the beginning, or the next part, of an overlong line."""
        if self._filter(label) is not None:
            return self._lines(label, part + b"\n")
        if self._is_terminal:
            shown = printable_output(part + b"\n")
            # A progress bar that never ends its line has shrunk to its last state and can wait on.
            if len(shown) <= MAX_HELD_BYTES // 4:
                self._held[label] = shown[:-1]
                return b""
            return self._prefix(label) + shown
        if self._unfinished == label:
            return part
        start = self.line_break() + self._prefix(label)
        self._unfinished = label
        return start + part

    def _filter(self, label: str) -> ErrorLines | None:
        if label not in self._filters:
            if len(self._filters) > MAX_LABELS:
                self._filters.clear()
            self._filters[label] = ErrorLines() if self._has_errors_only(label) else None
        return self._filters[label]

    def _prefix(self, label: str) -> bytes:
        prefix = self._prefixes.get(label)
        if prefix is None:
            name = printable_line(label)
            if self._is_terminal and len(name) > MAX_NAME:
                name = f"{name[: MAX_NAME - 15]}...{name[-12:]}"
            text = f"[{name}] " if self._is_prefixed else ""
            if self._colours and self._is_prefixed:
                text = f"\x1b[0;{colour_of(label)}m[{name}]\x1b[0m "
            if self._is_prefixed:
                text += " " * (self._width - cells_of(f"[{name}]"))
            prefix = self._prefixes[label] = text.encode(errors="surrogateescape")
            if len(self._prefixes) > MAX_LABELS:
                self._prefixes.clear()
        return prefix
