"""How many lines there are up to each block of a log: counted once, for all readers that skip them."""

from array import array

BLOCK_BYTES = 64 * 1024
MAX_BLOCKS = 1 << 20
"""Of a log that is longer than this many blocks (64 GB), the first half is forgotten."""


class LineIndex:
    """Sums of newlines over consecutive blocks, from the first one that a reader skipped."""

    def __init__(self) -> None:
        self.first = 0
        """The number of the first block."""
        self._sums = array("Q", [0])

    @property
    def end(self) -> int:
        """Return the number of the first block that is not counted."""
        return self.first + len(self._sums) - 1

    def begin_at(self, block: int) -> None:
        """Count from this block on, unless it is counted or there are only blocks before it that are."""
        if block > self.end or (block < self.first and self.end == self.first):
            self.first, self._sums = block, array("Q", [0])

    def add(self, lines: int) -> None:
        """Add the next block."""
        self._sums.append(self._sums[-1] + lines)
        if len(self._sums) > MAX_BLOCKS:
            half = len(self._sums) // 2
            del self._sums[:half]
            self.first += half

    def between(self, begin: int, end: int) -> int:
        """Return the lines of the blocks from `begin` up to `end`, both counted or the end."""
        return self._sums[end - self.first] - self._sums[begin - self.first]
