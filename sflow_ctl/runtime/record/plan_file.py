"""The file form of a plan, `plan.json`: every field of `Plan`, and one line for each task.

A copy of a task that differs from the first one in a few fields is written as these fields and `like`, the first one's name.
All copies that differ in name, index and dependencies only are one line: `like` the first one, and how many `copies` there are
with it. They share their scripts and environments in memory when they are read. Written by `runtime/record/directory.py`; read
by viewers and resumes.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from sflow_ctl.plan.copies.names import CopyNames
from sflow_ctl.plan.copies.task_list import Copies, Part, listed_tasks, parts_of
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.plan.words import Until

if TYPE_CHECKING:
    from sflow_ctl.runtime.record.plan_growth import Growth

_FIELDS = PlannedTask.__struct_fields__
_values_of = attrgetter(*_FIELDS)
MAX_CHANGES = 12
"""A copy that differs in more fields is written whole."""
_WRITTEN_AT_ONCE = 1000

Mask = Callable[[Any], Any]
"""Returns plain data without the values of secrets."""


def encode_plan(plan: Plan, mask: Mask | None = None) -> Iterator[bytes]:
    """Yield the file's content in pieces."""
    head = _encoded(msgspec.structs.replace(plan, tasks=()), mask)
    before, _, after = head.partition(b'"tasks":[]')
    yield before + b'"tasks":['
    separator = b"\n"
    entries = encode_tasks(parts_of(plan.tasks), mask)
    while lines := list(islice(entries, _WRITTEN_AT_ONCE)):
        yield separator + b",\n".join(lines)
        separator = b",\n"
    yield b"\n]" + after + b"\n"


def encode_tasks(parts: Sequence[Part], mask: Mask | None) -> Iterator[bytes]:
    """Yield the lines of tasks."""
    return (_encoded(entry, mask) for entry in _entries(parts))


def decode_plan(content: bytes) -> Plan:
    """Return the plan of a file. Raises: msgspec.DecodeError for another content."""
    return PlanFile(content).plan()


def as_recorded(plan: Plan) -> Plan:
    """Return the plan as a run directory has it: a changed secret does not make a task different work."""
    if not SECRETS.mask:
        return plan
    return decode_plan(b"".join(encode_plan(plan, SECRETS.mask.data)))


class _Copies(msgspec.Struct, omit_defaults=True):
    """The line of all copies of a task; that of the first one is before it."""

    like: str
    copies: int
    """How many there are, the first one included."""
    chain_until: Until | None = None
    items: list[Any] | None = None
    """Those that the copies are for."""

    @property
    def names(self) -> CopyNames:
        return CopyNames(self.like.rpartition("_")[0], self.copies)


class _Line(msgspec.Struct):
    """What a line says of which tasks it has."""

    name: str = ""
    like: str = ""
    copies: int = 0

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the tasks that no line before it has. Raises: msgspec.ValidationError without a name."""
        if self.copies:
            return _Copies(self.like, self.copies).names[1:]
        if not self.name:
            raise msgspec.ValidationError("a task has no name")
        return (self.name,)


class PlanFile:
    """A plan's file whose tasks are decoded when they are asked for: of 100,000 tasks a viewer shows 40."""

    def __init__(self, content: bytes) -> None:
        """Raises: msgspec.DecodeError for another content; of a line of a task only later."""
        file = msgspec.json.decode(content, type=_file_type())
        self._lines: list[msgspec.Raw] = file.tasks
        self._later: dict[int, msgspec.Raw] = {}
        """Lines in place of those at an index, which others may be like."""
        self._index_of: dict[str, int] = {}
        self._noted = 0
        rest = {name: getattr(file, name) for name in Plan.__struct_fields__ if name != "tasks"}
        self.head = Plan(**rest, tasks=())
        """The plan without its tasks."""
        self.problem = ""
        """What of it is not known, as a sentence."""

    def plan(self) -> Plan:
        """Return the whole plan. Raises: msgspec.DecodeError."""
        lines = ((line, self._later.get(index)) for index, line in enumerate(self._lines))
        return msgspec.structs.replace(self.head, tasks=listed_tasks(_parts(lines)))

    def grow(self, growths: "Iterable[Growth]") -> None:
        """Take in what has been added to the plan since. Raises: msgspec.DecodeError."""
        views = None
        for one in growths:
            if views is None:
                views = dict(self.head.task_views)
                self._note_indices()
            index = self._index_of.get(one.name)
            if index is None:
                raise msgspec.ValidationError(f"{one.name} has changed, and is not there")
            self._later[index] = one.changed
            self._lines += one.tasks
            self._note_indices()
            views |= one.task_views
            self.head = msgspec.structs.replace(self.head, revision=one.revision, source="")
        if views is not None:
            self.head = msgspec.structs.replace(self.head, task_views=views)

    def _note_indices(self) -> None:
        """Note where the lines of single tasks are that have been added."""
        decode = msgspec.json.Decoder(_Line).decode
        for index in range(self._noted, len(self._lines)):
            one = decode(self._lines[index])
            if not one.copies:
                self._index_of[one.name] = index
        self._noted = len(self._lines)

    def names(self) -> list[str]:
        """Return the names of all tasks, in order. Raises: msgspec.DecodeError."""
        return [name for line in map(msgspec.json.Decoder(_Line).decode, self._lines) for name in line.names]

    def plan_with(self, names: Collection[str]) -> Plan:
        """Return the plan with these of its tasks, and those that they are like. Raises: msgspec.DecodeError."""
        decode, wanted, lines = msgspec.json.Decoder(_Line).decode, set(names), []
        of_copies: dict[str, set[str]] = {}
        for index in reversed(range(len(self._lines))):  # a task comes after the one that it is like
            if not wanted:
                break
            line = self._lines[index]
            one = decode(line)
            if one.copies:
                copies = _Copies(one.like, one.copies).names
                here = of_copies[one.like] = {name for name in wanted if name in copies}
            else:
                here = wanted & set(one.names)
            if here:
                wanted = wanted - here | ({one.like} - {""})
                lines.append((line, self._later.get(index)))
        chosen = [one for part in _parts(reversed(lines)) for one in _chosen(part, of_copies)]
        return msgspec.structs.replace(self.head, tasks=tuple(chosen))


def _chosen(part: Part, wanted: Mapping[str, Collection[str]]) -> Sequence[PlannedTask]:
    """Return the tasks of a part; of copies those that are wanted beside the first."""
    if not isinstance(part, Copies):
        return (part,)
    indices = {part.names.find(name) for name in wanted[part.first.name]} | {0}
    return [part[index] for index in sorted(index for index in indices if index is not None)]


def _parts(lines: Iterable[tuple[msgspec.Raw, msgspec.Raw | None]]) -> list[Part]:
    """Return the parts that lines say, each with the one that has come in its place."""
    first: dict[str, PlannedTask] = {}
    parts: list[Part] = []
    whole = msgspec.json.Decoder(PlannedTask)
    fields = msgspec.json.Decoder(_RawFields)
    for line, later in lines:
        if not _is_copy(line):
            task = whole.decode(line)
        elif "copies" in (values := fields.decode(line)):
            parts.append(_all_copies(line, parts))
            continue
        else:
            task = _copy(values, first)
        first.setdefault(task.name, task)
        parts.append(task if later is None else whole.decode(later))
    return parts


def _all_copies(line: msgspec.Raw, parts: list[Part]) -> Copies:
    """Return the copies of a line; the first one, the part before it, becomes a part of them."""
    said = msgspec.json.decode(line, type=_Copies)
    first = parts.pop() if parts else None
    if not isinstance(first, PlannedTask) or first.name != said.like or first.name != f"{first.base}_0":
        raise msgspec.ValidationError(f"copies are like {said.like}, which is not before them")
    return Copies(first, said.copies, said.chain_until, said.items)


_RawFields = dict[str, msgspec.Raw]
_LIKE = b'{"like":'


def _is_copy(line: msgspec.Raw) -> bool:
    return bytes(memoryview(line)[: len(_LIKE)]) == _LIKE


def _copy(fields: _RawFields, first: Mapping[str, PlannedTask]) -> PlannedTask:
    like = msgspec.json.decode(fields.pop("like"), type=str)
    if like not in first:
        raise msgspec.ValidationError(f"a task is like {like}, which is not there")
    changes = {name: _decoder_of(name)(value) for name, value in fields.items()}
    return msgspec.structs.replace(first[like], **changes)


@cache
def _decoder_of(name: str) -> Callable[[msgspec.Raw], Any]:
    """Return the decoder of a field of `PlannedTask`. Raises: msgspec.ValidationError for another name."""
    if name not in _FIELDS:
        raise msgspec.ValidationError(f"a task has no field {name}")
    hints = get_type_hints(PlannedTask)
    return msgspec.json.Decoder(hints[name]).decode


def _entries(parts: Sequence[Part]) -> Iterator[PlannedTask | _Copies | dict[str, Any]]:
    """Yield what is written of each task, or of all copies of one."""
    first: dict[str, tuple[Any, ...]] = {}
    for task in parts:
        if isinstance(task, Copies):
            yield task.first
            items = None if task.items is None else list(task.items)
            yield _Copies(task.first.name, len(task), task.chain_until, items)
            continue
        values, model = _values_of(task), first.get(task.base)
        if model is None:
            first[task.base] = values
            yield task
            continue
        changes = {
            name: value
            for name, value, other in zip(_FIELDS, values, model, strict=True)
            if value is not other and value != other
        }
        yield {"like": model[0], **changes} if len(changes) <= MAX_CHANGES else task


def _encoded(record: msgspec.Struct | dict[str, Any], mask: Mask | None) -> bytes:
    return msgspec.json.encode(
        record if mask is None else mask(msgspec.to_builtins(record, enc_hook=str)), enc_hook=str
    )


@cache
def _file_type() -> type[Any]:
    """Return the type of the file: that of a plan, with the lines of its tasks."""
    of_plan = [
        (field.name, list[msgspec.Raw]) if field.name == "tasks" else _with_default(field)
        for field in msgspec.structs.fields(Plan)
    ]
    return msgspec.defstruct("PlanFile", of_plan, kw_only=True)


def _with_default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.name, field.type, msgspec.field(default_factory=field.default_factory)
    return (field.name, field.type) if field.required else (field.name, field.type, field.default)
