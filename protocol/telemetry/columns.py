"""Packs the values of one measured quantity over time into few bytes. Pure; `block` makes series of the columns.

A column is the differences of its known values, each as wide as the largest needs, so that both directions are loops in C.
"""

import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate, compress
from itertools import count as numbers_from
from operator import sub

import msgspec

WIDTHS = "bhiq"
"""Types of `array`: 1, 2, 4 and 8 bytes, signed."""
_SIZES = {code: array(code).itemsize for code in WIDTHS}


class Column(msgspec.Struct, frozen=True, array_like=True):
    """The values of one quantity of a series, one for each row of its block."""

    name: str
    width: str
    """One of `WIDTHS`."""
    deltas: bytes
    """The first known value, then each known one minus the one before: the lowest bytes of all, then the next ones. Bytes of
    one significance are alike, so that they are compressed well."""
    known: bytes = b""
    """Bit n, least significant first, is 1 where row n has a value. Empty: all rows have one."""


def packed(name: str, values: Sequence[int | None]) -> Column | None:
    """Return the column of these values; None if none of them is known."""
    known = b""
    if not values:
        return None
    if None in values:
        mask = sum(1 << row for row, value in enumerate(values) if value is not None)
        if not mask:
            return None
        known = mask.to_bytes((len(values) + 7) // 8, "little")
    numbers = [value for value in values if value is not None]
    deltas = [*numbers[:1], *map(sub, numbers[1:], numbers)]
    for width in WIDTHS:
        try:
            made = array(width, deltas)
        except OverflowError:
            continue
        if sys.byteorder == "big":  # the format is little-endian
            made.byteswap()
        plain, size = made.tobytes(), made.itemsize
        deltas_by_byte = b"".join(plain[byte::size] for byte in range(size)) if size > 1 else plain
        return Column(name, width, deltas_by_byte, known)
    raise ValueError(f"a value of {name} does not fit into 64 bits")


def unpacked(column: Column, rows: int) -> list[int | None]:
    """Return the values of a column; None where a row has none.

    Raises: ValueError for a column that was not made by `packed`.
    """
    if column.width not in _SIZES:
        raise ValueError(f"unknown width {column.width!r}")
    size = _SIZES[column.width]
    count, rest = divmod(len(column.deltas), size)
    if rest:
        raise ValueError(f"{len(column.deltas)} bytes of {column.name} are not whole numbers")
    plain = bytearray(len(column.deltas))
    for byte in range(size):
        plain[byte::size] = column.deltas[byte * count : (byte + 1) * count]
    deltas = array(column.width)
    deltas.frombytes(plain)
    if sys.byteorder == "big":
        deltas.byteswap()
    numbers = list(accumulate(deltas))
    if not column.known:
        if len(numbers) != rows:
            raise ValueError(f"{len(numbers)} values of {column.name} in {rows} rows")
        return list(numbers)
    mask = int.from_bytes(column.known, "little")
    if mask.bit_count() != len(numbers) or mask >> rows:
        raise ValueError(f"{len(numbers)} values of {column.name} in {mask.bit_count()} known rows")
    values: list[int | None] = [None] * rows
    bits = map(int, reversed(f"{mask:b}"))
    for row, number in zip(compress(numbers_from(), bits), numbers, strict=True):
        values[row] = number
    return values
