"""The files of a journal: `events.jsonl`, which grows, and the segments before it, `events.NNNNNN.jsonl.gz`, which never change.

When a segment is full its compressed copy is made durable first; then a new `events.jsonl` takes its name in one step. A crash
at any moment leaves each line in one file at least: where both have it, the first line of `events.jsonl` says that it is still
this segment, and the copy is not read. Used by `writer.py` and `reader.py`.
"""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.runtime.record.durable import open_regular, open_to_append, sync_directory, write_durably

SEGMENT_BYTES = 8 * 1024 * 1024
"""Of the growing file, when the next one begins. Compressed in 50 ms, which is as long as the loop stands still."""
_BLOCK = 1024 * 1024
_GZIP = 31
"""Of zlib: with gzip's header, and the largest window."""
_LEVEL = 1
"""A twelfth of the size in a third of the time of the default level."""
_CLOSED = lazy_pattern(r"^events\.(\d{6,})\.jsonl\.gz$")
_SEGMENT = lazy_pattern(rb'^\{"seq":\d+,.*"begin":\{"segment":(\d+)')
_FIRST_LINE = 4096


def closed_path(journal: Path, number: int) -> Path:
    """Return the name of a full segment of the journal that grows in `journal`."""
    return journal.with_name(f"events.{number:06}.jsonl.gz")


def closed_segments(journal: Path) -> dict[int, Path]:
    """Return the full segments by number, in order."""
    try:
        names = os.listdir(journal.parent)  # noqa: PTH208 - names are enough
    except OSError:
        return {}
    found = ((_CLOSED.match(name), name) for name in names)
    return dict(
        sorted((int(match[1]), journal.with_name(name)) for match, name in found if match is not None)
    )


def segment_number(file: IO[bytes], journal: Path) -> int:
    """Return the number of the segment that grows, by its first line, else as the one after the last full one."""
    file.seek(0)
    found = _SEGMENT.match(file.readline(_FIRST_LINE))
    return int(found[1]) if found is not None else max(closed_segments(journal), default=0) + 1


def close_segment(journal: Path, number: int) -> None:
    """Make the compressed copy of a full segment durable. Raises: OSError."""
    write_durably(closed_path(journal, number), _compressed(journal))


def begin_segment(journal: Path, first_line: bytes) -> IO[bytes]:
    """Replace the growing file by a new one in one step; return it. Raises: OSError; the old file is there then."""
    temporary = journal.with_name(f".{journal.name}.next")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    file = open_to_append(temporary)
    try:
        if file.write(first_line) != len(first_line):
            raise OSError(f"{temporary} was written in part")
        os.fsync(file.fileno())
        temporary.rename(journal)
    except OSError:
        file.close()
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with contextlib.suppress(OSError):  # the file has its name: what follows goes into it
        sync_directory(journal.parent)
    return file


def read_closed(path: Path) -> bytes:
    """Return the lines of a full segment; of a damaged one those before the damage. Raises: OSError if there are none."""
    with open_regular(path) as file:
        decompressor, pieces = zlib.decompressobj(_GZIP), []
        while block := file.read(_BLOCK):
            try:
                pieces.append(decompressor.decompress(block))
            except zlib.error:
                break
    return b"".join(pieces)


def _compressed(journal: Path) -> Iterator[bytes]:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    with open_regular(journal) as file:
        while block := file.read(_BLOCK):
            yield compressor.compress(block)
    yield compressor.flush()
