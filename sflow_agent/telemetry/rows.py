"""Collects rows until they are packed: the newest ones for viewers, and all of a minute for good. Pure."""

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from protocol.telemetry.block import Kind, SeriesPart, frame, make_block, make_part

WHOLE_ROWS = 60
"""Rows of one block: long enough to be packed well, short enough for a reader to skip what it does not need."""
Key = tuple[Kind, str]
Values = Mapping[str, int | None]


class _Buffer(Struct):
    first: int
    labels: dict[str, str]
    rows: int = 0
    columns: dict[str, list[int | None]] = field(default_factory=dict)

    def add(self, row: int, values: Values) -> None:
        gap = row - self.first - self.rows
        for name, value in values.items():
            column = self.columns.get(name)
            if column is None:
                if value is None:
                    continue
                column = self.columns[name] = []
            column += [None] * (row - self.first - len(column))
            column.append(value)
        self.rows += gap + 1

    def part(self, key: Key, begin: int) -> SeriesPart | None:
        """Return the rows from `begin` of the block on; None if there are none."""
        skipped = max(0, begin - self.first)
        rows = self.rows - skipped
        if rows <= 0:
            return None
        columns = {
            name: [*values[skipped:], *[None] * (self.rows - max(len(values), skipped))]
            for name, values in self.columns.items()
        }
        return make_part(*key, max(self.first - begin, 0), columns, self.labels)


class Rows:
    """The rows since the last whole block. `pause` is called between series, so that other threads get their turn."""

    def __init__(self, pause: Callable[[], object] = lambda: None) -> None:
        self._pause = pause
        self._times: list[int] = []
        self._buffers: dict[Key, _Buffer] = {}
        self._sent = 0
        self._last_ms = 0

    @property
    def is_full(self) -> bool:
        """Return whether a block is complete."""
        return len(self._times) >= WHOLE_ROWS

    def add(
        self, at_ms: int, values: Mapping[Key, Values], labels: Mapping[Key, dict[str, str]] | None = None
    ) -> None:
        """Add a row to each of these series. Times grow, also when the clock was set back."""
        self._last_ms = max(at_ms, self._last_ms + 1)
        row = len(self._times)
        self._times.append(self._last_ms)
        for key, known in values.items():
            buffer = self._buffers.get(key)
            if buffer is None:
                buffer = self._buffers[key] = _Buffer(row, (labels or {}).get(key, {}))
            buffer.add(row, known)

    def newest(self) -> bytes:
        """Return the rows that were not returned before, packed; empty if there are none."""
        packed = self._packed(self._sent)
        self._sent = len(self._times)
        return packed

    def whole(self) -> bytes:
        """Return all rows packed, and begin anew; empty if there are none."""
        packed = self._packed(0)
        self._times, self._buffers, self._sent = [], {}, 0
        return packed

    def _packed(self, begin: int) -> bytes:
        times = self._times[begin:]
        if not times:
            return b""
        parts = []
        for key, buffer in self._buffers.items():
            part = buffer.part(key, begin)
            if part is not None:
                parts.append(part)
            self._pause()
        return frame(make_block(times, parts))
