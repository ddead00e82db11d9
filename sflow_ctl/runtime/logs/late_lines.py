"""Brings the merged log of a gang up to date with a rank's file whose last bytes came late.

The merge itself is in `consumers/gang.py`, which calls this for ranks that it has done with, as `earlier_logs.py` does for
attempts of earlier controllers.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

COPIED_BYTES = 1024 * 1024


class _Merged(Struct):
    """The lines of one rank in a merged log: how many, and the last one with its place."""

    count: int = 0
    last: bytes = b""
    offset: int = 0


def rank_prefix(rank: int, size: int) -> bytes:
    """Return the beginning of every merged line of this rank of `size`."""
    return f"{rank:0{len(str(size - 1))}d}: ".encode()


def add_late_lines(merged: Path, rank_file: Path, prefix: bytes) -> int:
    """Append the lines of a rank's file that its merged log lacks; return their number.

    A last line that was merged before its end had arrived is completed in its place. Raises: OSError.
    """
    found = _merged_lines(merged, prefix)
    with rank_file.open("rb") as file:
        same = next(islice(_lines(file), found.count - 1, None), None) if found.count else None
        if same is not None and same != found.last and same.startswith(found.last):
            _replace_line(merged, found, prefix, same)
        first = next(_lines(file), None)
        if first is None:
            return 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        added = 0
        with os.fdopen(os.open(merged, flags, 0o600), "ab") as target:
            for line in chain((first,), _lines(file)):
                target.write(prefix + line + b"\n")
                added += 1
    return added


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines without their ends; the last one may have none."""
    for line in file:
        yield line.removesuffix(b"\n")


def _merged_lines(merged: Path, prefix: bytes) -> _Merged:
    found, offset = _Merged(), 0
    with suppress(FileNotFoundError), merged.open("rb") as file:
        for line in file:
            if line.startswith(prefix):
                found.count += 1
                found.last, found.offset = line.removeprefix(prefix).removesuffix(b"\n"), offset
            offset += len(line)
    return found


def _replace_line(merged: Path, old: _Merged, prefix: bytes, line: bytes) -> None:
    """Write the merged log anew with another text of one line, whole or not at all."""
    made = merged.with_name(f".{merged.name}.late")
    made.unlink(missing_ok=True)  # of a controller that was killed here
    with merged.open("rb") as source, made.open("xb") as target:
        os.fchmod(target.fileno(), 0o600)
        left = old.offset
        while left > 0 and (piece := source.read(min(left, COPIED_BYTES))):
            target.write(piece)
            left -= len(piece)
        source.readline()
        target.write(prefix + line + b"\n")
        while piece := source.read(COPIED_BYTES):
            target.write(piece)
    made.replace(merged)
