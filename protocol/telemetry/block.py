"""Blocks of measured series, and their frames in messages and files. Pure.

An agent measures all tasks and GPUs of its node at the same times, so a block has one list of times, and series that may begin
and end within it. The format is documented in docs/reference/telemetry.md; `VERSION` grows when a reader must change.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct as Layout
from typing import Literal

import msgspec

from protocol.telemetry.columns import Column, packed, unpacked

VERSION = 1
Kind = Literal["node", "task", "gpu"]
_HEAD = Layout("<II")
"""Of a frame: the length of its content, and the content's CRC-32."""
MAX_FRAME = 16 << 20
MAX_CONTENT = 256 << 20
"""What a frame may be when it is no longer compressed."""

TASK_COLUMNS = (
    "cpu_ms", "rss_kib", "pss_kib", "read_kib", "written_kib", "disk_read_kib", "disk_written_kib",
    "processes", "threads", "descriptors", "gpus", "gpu_busy_ms", "gpu_memory_mib", "energy_mj",
)  # fmt: skip
GPU_COLUMNS = (
    "percent", "memory_percent", "memory_mib", "power_mw", "temperature_c", "sm_mhz", "memory_mhz",
    "ecc_corrected", "ecc_uncorrected", "nvlink_rx_kib", "nvlink_tx_kib", "energy_mj", "processes",
)  # fmt: skip
NODE_COLUMNS = ("cpu_busy_ms", "memory_used_kib", "cost_us")


class SeriesPart(msgspec.Struct, frozen=True, array_like=True):
    """The rows of one series within a block."""

    kind: Kind
    name: str
    """Of a task its attempt, `decode_3#2`; of a GPU its UUID, or its number; of the node its name."""
    first: int
    """The row of the block that is the first of the series here."""
    rows: int
    columns: tuple[Column, ...]
    labels: dict[str, str] = {}
    """What does not change: of a GPU `index` and `name`, of a node `cpus` and `memory_kib`."""


class Block(msgspec.Struct, frozen=True, array_like=True):
    """The series of one node over some time."""

    version: int
    times: Column
    """When each row was measured: milliseconds since 1970 by the node's clock."""
    rows: int
    series: tuple[SeriesPart, ...]

    def times_ms(self) -> list[int]:
        """Return the times of the rows. Raises: ValueError."""
        return [time for time in unpacked(self.times, self.rows) if time is not None]


def make_block(times_ms: Sequence[int], series: Sequence[SeriesPart]) -> Block:
    """Return a block of series that were measured at these times; there is at least one time."""
    times = packed("time_ms", times_ms)
    assert times is not None
    return Block(VERSION, times, len(times_ms), tuple(series))


def make_part(
    kind: Kind,
    name: str,
    first: int,
    columns: Mapping[str, Sequence[int | None]],
    labels: dict[str, str] | None = None,
) -> SeriesPart:
    """Return the rows of a series; columns without a known value are left out."""
    made = [column for name_, values in columns.items() if (column := packed(name_, values)) is not None]
    rows = max(map(len, columns.values()), default=0)
    return SeriesPart(kind, name, first, rows, tuple(made), labels or {})


def frame(block: Block) -> bytes:
    """Return a block as it is sent and stored."""
    content = zlib.compress(msgspec.msgpack.encode(block), 6)
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


def blocks_in(content: bytes) -> Iterator[Block]:
    """Yield the blocks of a file or message; end before a frame that is incomplete or damaged."""
    for _, _, block in frames_in(content):
        yield block


def frames_in(content: bytes) -> Iterator[tuple[int, int, Block]]:
    """Yield the blocks of a file or message, each after the positions of its frame's beginning and end."""
    at = 0
    while at + _HEAD.size <= len(content):
        length, checksum = _HEAD.unpack_from(content, at)
        body = content[at + _HEAD.size : at + _HEAD.size + length]
        if length > MAX_FRAME or len(body) < length or zlib.crc32(body) != checksum:
            return
        block = _decoded(body)
        if block is None:
            return
        end = at + _HEAD.size + length
        yield at, end, block
        at = end


def _decoded(body: bytes) -> Block | None:
    """Return the block; None if it is not one of ours."""
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(body, MAX_CONTENT)
        block = _DECODER.decode(content) if unpacker.eof else None
    except (zlib.error, msgspec.DecodeError):
        return None
    return block if block is not None and block.version == VERSION else None


_DECODER = msgspec.msgpack.Decoder(Block)
