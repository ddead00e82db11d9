"""`checkpoint.jsonl`: the scheduler's state up to a place of the journal, so that a successor replays only what follows it.

Each line has what has changed since the one before, after a checksum. A copy of what the journal has, never synced: where it is
missing, torn, of another plan, controller or version, or does not fit the journal, the whole journal is replayed.
Written through `checkpointing.py`, read by `supervision/history.py`.
"""

import contextlib
import os
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

from protocol.messages.facts import Hello, RankExited
from sflow_ctl.core.checkpoint.saved_state import Checkpoints, SavedPart
from sflow_ctl.core.events import AgentJoined
from sflow_ctl.core.model.run import Run
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.resumed import Takeover
from sflow_ctl.runtime.journal.checkpointing import ShellNotes
from sflow_ctl.runtime.journal.reader import JournalReader, Place
from sflow_ctl.runtime.journal.snapshot import names_text
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, open_regular, open_to_append, write_for_now
from sflow_ctl.runtime.record.processes import boot
from sflow_ctl.version import VERSION

FORMAT = 1
MAX_VALUES = 64 * 1024
"""Bytes of a task's values of outputs; larger ones are read from its `outputs.json`."""
GROWN_FROM, GROWN = 64 * 1024 * 1024, 4
"""From so many bytes on a file is written anew that is so many times as large as when it was begun."""


class SavedNotes(Struct, omit_defaults=True):
    """What a controller's shell knows that its scheduler does not."""

    joined: dict[int, AgentJoined] = msgspec.field(default_factory=dict)
    """The last hello of each node."""
    restarted: list[Hello] = msgspec.field(default_factory=list)
    """Those of agents that took the place of others."""
    exits: list[tuple[int, RankExited]] = msgspec.field(default_factory=list)
    """Exits that were reported, each with its node."""
    stops: int = 0
    """How often the run was asked to stop."""


class CheckpointLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line."""

    format: int
    version: str
    plan: str
    """What identifies the plan: how many tasks it has, and a checksum of their names."""
    revision: int = 1
    """The number of the plan. All lines have the same."""
    lineage: int
    """The controller whose scheduler this is."""
    boot: str
    at: float
    """Monotonic seconds of the machine's boot that all times are of."""
    wall_ns: int
    place: Place
    """Up to where it has what the journal has."""
    known: SavedNotes
    """Hellos since the line before, and of exits all of attempts that are not over."""
    takeovers: tuple[Takeover, ...] = ()
    part: SavedPart


class UsableCheckpoint(Struct, frozen=True):
    """The lines of a checkpoint that can be used."""

    records: list[CheckpointLine]
    size: int
    """Bytes of them: what follows was not written completely."""

    @property
    def revision(self) -> int:
        """The revision of the plan that it is of."""
        return self.records[-1].revision

    def is_of(self, names: Collection[str]) -> bool:
        """Return whether the checkpoint is of a plan whose tasks have these names, in this order."""
        return self.records[-1].plan == names_text(names)


class CheckpointFile:
    """The file that a controller writes."""

    def __init__(
        self, directory: Path, run: Run, lineage: int, notes: ShellNotes, size: int, revision: int = 1
    ) -> None:
        """`size` are the bytes of the present file that the run began with; 0 begins another one.

        The file is of the plan with the number `revision`.
        """
        self._path = directory / layout.CHECKPOINT
        self._run, self._lineage, self._notes = run, lineage, notes
        self._parts = Checkpoints(run, _is_cut)
        self._has: dict[int, AgentJoined] = dict(notes.joined) if size else {}
        """The hellos that the file has."""
        self._has_restarted = len(notes.restarted) if size else 0
        self._size = self._begun_with = size
        self._noted = bytearray(b"\1" if size else b"\0") * len(run.tasks)
        """By task, whether it has, or may have, changed since the run began."""
        self._file: IO[bytes] | None = None
        self._plan = 0, ""
        self._revision = revision

    def write(self, place: Place, now: float, takeovers: Sequence[Takeover]) -> None:
        """Write what has changed since the last call; `place` is the end of the journal. A disk that refuses costs nothing."""
        is_grown = self._size > max(GROWN_FROM, GROWN * self._begun_with)
        if not self._size or is_grown or self._revision != self._run.plan.revision:
            self._begin_anew()
        try:
            self._append(self._line(place, now, takeovers))
        except OSError:  # the journal has it all
            self._size = 0

    def _begin_anew(self) -> None:
        """Have the next line say everything."""
        self.close()
        self._size = self._has_restarted = 0
        self._revision = self._run.plan.revision
        self._noted.extend(bytes(len(self._run.tasks) - len(self._noted)))
        self._run.changed.update(index for index, is_noted in enumerate(self._noted) if is_noted)
        self._run.requests.fresh[:] = self._run.requests.answers
        self._parts, self._has = Checkpoints(self._run, _is_cut), {}

    def _line(self, place: Place, now: float, takeovers: Sequence[Takeover]) -> bytes:
        notes = self._notes
        for index in self._run.changed:
            self._noted[index] = 1
        notes.forget_ended(self._run)
        known = SavedNotes(
            joined={node: one for node, one in notes.joined.items() if self._has.get(node) is not one},
            restarted=notes.restarted[self._has_restarted :],
            exits=list(notes.exits.values()),
            stops=notes.stops,
        )
        record = CheckpointLine(
            format=FORMAT,
            version=VERSION,
            plan=self._plan_text(),
            revision=self._revision,
            lineage=self._lineage,
            boot=boot(),
            at=now,
            wall_ns=time.time_ns(),
            place=place,
            known=known,
            takeovers=tuple(takeovers),
            part=self._parts.take(),
        )
        self._has, self._has_restarted = dict(notes.joined), len(notes.restarted)
        content = SECRETS.mask.raw(msgspec.json.encode(record))
        return b"%08x %b\n" % (zlib.crc32(content), content)

    def _append(self, line: bytes) -> None:
        if not self._size:
            write_for_now(self._path, line)
            self._begun_with = len(line)
        else:
            if self._file is None:
                os.truncate(self._path, self._size)
                self._file = open_to_append(self._path)
            if self._file.write(line) != len(line):
                raise OSError(f"{self._path} was written in part")
        self._size += len(line)

    def _plan_text(self) -> str:
        if self._plan[0] != len(self._run.tasks):
            self._plan = len(self._run.tasks), names_text(self._run.index_of)
        return self._plan[1]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None


def read_checkpoint(directory: Path, lineage: int) -> UsableCheckpoint | str:
    """Return the lines of a checkpoint, or why it cannot be used, as the end of a sentence."""
    records: list[CheckpointLine] = []
    size = 0
    try:
        for line in _whole_lines(directory / layout.CHECKPOINT):
            records.append(msgspec.json.decode(memoryview(line)[9:-1], type=CheckpointLine))
            size += len(line)
    except FileNotFoundError:
        return "there is none yet"
    except OSError as error:
        return f"{layout.CHECKPOINT} cannot be read: {error.strerror}"
    except UNREADABLE as error:
        return f"{layout.CHECKPOINT} was not written by this version: {error}"
    if not records:
        return f"{layout.CHECKPOINT} is damaged"
    last = records[-1]
    if any((one.format, one.version) != (FORMAT, VERSION) for one in records):
        return f"{layout.CHECKPOINT} is of sflow-ctl {last.version}"
    if any(one.lineage != lineage for one in records):
        return f"{layout.CHECKPOINT} is of incarnation {last.lineage}, not of {lineage}"
    if any((one.plan, one.revision) != (last.plan, last.revision) for one in records):
        return f"{layout.CHECKPOINT} is of several plans"
    if not JournalReader(directory, last.place).fits():
        return f"{layout.CHECKPOINT} does not fit the journal"
    return UsableCheckpoint(records, size)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines before the first one that is torn or damaged. Raises: OSError."""
    with open_regular(path) as file:
        for line in file:
            if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(memoryview(line)[9:-1]):
                return
            yield line


def _is_cut(values: dict[str, Any]) -> bool:
    return len(msgspec.json.encode(values)) > MAX_VALUES
