"""`plan_growth.jsonl`: what a plan has gained since `plan.json` was written, one line for each revision that adds tasks.

A loop of a thousand iterations writes each of its tasks once so, not a thousand times. A line has the new tasks, and the task
in whose place they run, as it is from then on. Lines up to the revision of `plan.json` are in that already. Written by
`runtime/revising/in_force.py`; read with `plan.json` by all that read a plan.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct

from sflow_ctl.plan.copies.task_list import parts_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, open_to_append, read_regular, sync_directory
from sflow_ctl.runtime.record.plan_file import Mask, PlanFile, encode_tasks

TRIES = 5
"""So often a plan is read again that was replaced meanwhile."""


class Growth(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one revision has added."""

    revision: int
    wall_ns: int
    text: str
    """What it is about, as a sentence."""
    name: str
    """The task that has changed."""
    changed: msgspec.Raw
    """As it is now."""
    tasks: list[msgspec.Raw]
    """Those that are new, as lines of `plan.json`."""
    task_views: dict[str, object] = {}
    """Those that are new."""


def encode_growth(old: Plan, new: Plan, index: int, text: str, wall_ns: int, mask: Mask | None) -> bytes:
    """Return the line for a plan that has grown from another one: the task at an index has changed, and others follow."""
    changed = new.tasks[index]
    added = parts_of(new.tasks)[len(parts_of(old.tasks)) :]
    views = list(islice(reversed(new.task_views), len(new.task_views) - len(old.task_views)))
    if old.task_views.get(changed.name) is not new.task_views.get(changed.name):
        views.append(changed.name)
    plain = {"text": text, "task_views": {name: new.task_views[name] for name in reversed(views)}}
    line = Growth(
        revision=new.revision,
        wall_ns=wall_ns,
        name=changed.name,
        changed=msgspec.Raw(next(encode_tasks([changed], mask))),
        tasks=[msgspec.Raw(one) for one in encode_tasks(added, mask)],
        **(plain if mask is None else mask(msgspec.to_builtins(plain, enc_hook=str))),
    )
    return msgspec.json.encode(line, enc_hook=str) + b"\n"


def append_growth(directory: Path, line: bytes) -> None:
    """Add a line, and make it durable. Raises: OSError; readers ignore a line that was written in part."""
    path = directory / layout.PLAN_GROWTH
    is_new = not path.exists()
    with open_to_append(path) as file:
        if file.tell() and not _ends_with_line(path):
            line = b"\n" + line  # after one that a killed controller has begun
        if file.write(line) != len(line):
            raise OSError(f"{path} was written in part")
        os.fsync(file.fileno())
    if is_new:
        sync_directory(path.parent)


def _ends_with_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def growths(content: bytes, after: int) -> Iterator[Growth]:
    """Yield the growths of a file that follow a revision, in their order, without a gap."""
    decode = msgspec.json.Decoder(Growth).decode
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return  # being written
        try:
            one = decode(line)
        except UNREADABLE:
            continue  # torn: the next controller has written its own line after it
        if one.revision == after + 1:
            after += 1
            yield one


def last_revision(content: bytes) -> int:
    """Return the number of the last growth of a file; 0 without one."""
    for line in reversed(content.splitlines()):
        try:
            return msgspec.json.decode(line, type=_Numbered).revision
        except UNREADABLE:
            continue
    return 0


class _Numbered(Struct):
    revision: int


def read_growth(directory: Path) -> bytes:
    """Return the file's content; empty if there is none. Raises: OSError."""
    try:
        return read_regular(directory / layout.PLAN_GROWTH)
    except FileNotFoundError:
        return b""


def recorded_revision(directory: Path) -> int:
    """Return the number of the newest plan that is recorded; 0 where that is not known."""
    try:
        return read_plan_file(directory).head.revision
    except (OSError, *UNREADABLE):
        return 0


def read_plan_file(directory: Path, changed: Callable[[bytes], bytes] = bytes) -> PlanFile:
    """Return the plan that is in force, of what is `changed` of its files. Raises: OSError; one of `UNREADABLE`."""
    for _ in range(TRIES):
        file = PlanFile(changed(read_regular(directory / layout.PLAN)))
        content = changed(read_growth(directory))
        file.grow(growths(content, file.head.revision))
        lacking = file.head.revision < last_revision(content)
        if not lacking:
            return file  # else plan.json was replaced between the two
    file.problem = (
        f"{layout.PLAN_GROWTH} is damaged: what revision {file.head.revision + 1} has added is not known"
    )
    return file


class GrowthWatch:
    """Says whether the file has become longer."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the run's."""
        self._path = directory / layout.PLAN_GROWTH
        self._size = size_of(self._path)

    def has_news(self) -> bool:
        """Return whether it has become longer since the last call."""
        before, self._size = self._size, size_of(self._path)
        return self._size > before


def size_of(path: Path) -> int:
    """Return the bytes of a file; 0 if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
