"""A line of the journal, and its bytes: masked, and limited in length.

Facts are never cut. Long texts and values are: a value is also in its task's `outputs.json`, where a resume reads it. Used by
`writer.py`, and through `reader.py` by everything that reads a journal.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any, Literal

import msgspec

from protocol.text.counted import counted
from sflow_ctl.core.commands import AnswerRequest, RecordCheckpoint, RecordUploads, RecordWaiting
from sflow_ctl.core.events import SchedulerEvent
from sflow_ctl.core.states import Transition
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.resumed import Takeover
from sflow_ctl.runtime.record.durable import UNREADABLE

FORMAT = 1
"""Grows when a program of today would misread a line."""
MAX_LINE = 64 * 1024
"""Bytes of a line with texts or values; only facts about many ranks at once make a longer one."""
_TEXT_BEGIN, _TEXT_END = 6000, 2000
"""Characters that are left of a text in a line that is too long."""
_MAX_LISTED = 50
"""Texts of a list, or values of a task, that are left in such a line."""
_MAX_VALUE = 500
"""Bytes of a value that is left in such a line."""


class Begin(msgspec.Struct, frozen=True):
    """The first line of a segment, and of a controller."""

    segment: int
    """The number of the segment, from 1. Those before are in `events.NNNNNN.jsonl.gz`."""
    format: int
    """The number of the format; a program reads those up to its own."""
    version: str
    """The version of sflow-ctl that wrote what follows."""
    boot: str = ""
    """The boot of the machine that wrote what follows: monotonic times of another one begin elsewhere."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. `at` is the controller's monotonic clock, comparable within one incarnation only."""

    seq: int
    """The number of the line, from 1; a controller that resumes the run, and a new segment, continue it."""
    incarnation: int
    """The number of the controller that wrote the line, from 1."""
    wall_ns: int
    """Wall time in ns since 1970, for display."""
    at: float
    """Monotonic seconds of the controller."""
    kind: "Kind"
    """Which of the following fields is set."""
    begin: Begin | None = None
    """The beginning of a segment, or of what another controller wrote."""
    event: SchedulerEvent | None = None
    """An input of the scheduler."""
    transition: Transition | None = None
    """A change of a task's state."""
    waiting: RecordWaiting | None = None
    """A change of the unmet readiness conditions of a service."""
    uploads: RecordUploads | None = None
    """What became of the uploads of a task."""
    checkpoint: RecordCheckpoint | None = None
    """What an attempt continues from."""
    takeover: Takeover | None = None
    """A controller was killed, and another one has taken the run over."""
    request: AnswerRequest | None = None
    """What an operator has asked for, and what it has led to."""
    is_cut: bool = False
    """Long texts or values are cut; the note in their place says how long they were."""


Kind = Literal["begin", "event", "transition", "waiting", "uploads", "checkpoint", "takeover", "request"]
_encoder = msgspec.json.Encoder()


@cache
def _decoder() -> "msgspec.json.Decoder[Entry]":
    """Return the decoder, made at its first use: it takes 2 ms, and a new run reads no journal."""
    return msgspec.json.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    """Return the line of an entry, without values of secrets."""
    line = SECRETS.mask.raw(_encoder.encode(entry))
    return b"%b\n" % (line if len(line) <= MAX_LINE else _shortened(line))


def decode_entry(line: bytes) -> Entry:
    """Return the entry of a line. Raises: one of `UNREADABLE`."""
    return _decoder().decode(line)


def read_journal(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries in `lines`, without torn or foreign lines."""
    decode = _decoder().decode
    for line in lines:
        try:
            yield decode(line)
        except UNREADABLE:
            continue


def _shortened(line: bytes) -> bytes:
    """Return a line with its long texts and values cut; after masking, so that no part of a secret is left."""
    try:
        data = msgspec.json.decode(line)
    except UNREADABLE:  # a mark in place of a number
        return line
    event = data.get("event", {})
    if "values" in event:
        event["values"] = _shortened_values(event["values"])
    shortened = _cut(data)
    return _encoder.encode({**shortened, "is_cut": True})


def _shortened_values(values: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in islice(values.items(), _MAX_LISTED):
        size = len(_encoder.encode(value))
        kept[name] = value if size <= _MAX_VALUE else f"(cut: {size} bytes, in the task's outputs.json)"
    left = len(values) - len(kept)
    return (
        kept if not left else {**kept, "(cut)": f"{counted(left, 'more value')} in the task's outputs.json"}
    )


def _cut(data: Any) -> Any:
    if isinstance(data, str):
        left_out = len(data) - _TEXT_BEGIN - _TEXT_END
        if left_out <= 0:
            return data
        return f"{data[:_TEXT_BEGIN]} (cut: {counted(left_out, 'character')}) {data[-_TEXT_END:]}"
    if isinstance(data, dict):
        return {key: _cut(value) for key, value in data.items()}
    if isinstance(data, list):
        left = len(data) - _MAX_LISTED
        if left > 0 and all(isinstance(one, str) for one in data):
            data = [*data[:_MAX_LISTED], f"(cut: {left} more)"]
        return [_cut(one) for one in data]
    return data
