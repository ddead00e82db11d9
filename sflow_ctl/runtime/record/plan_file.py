"""The file form of a plan, `plan.json`: every field of `Plan`, and one line for each task.

A copy of a task that differs from the first one in a few fields is written as these fields and `like`, the first one's name.
100,000 replicas are 6 MB so, and share their scripts and environments in memory when they are read. Written by
`runtime/record/directory.py`; read by viewers and resumes.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from operator import attrgetter
from typing import Any, get_type_hints

import msgspec

from sflow_ctl.plan.model import Plan, PlannedTask

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
    entries = _entries(plan)
    while lines := [_encoded(entry, mask) for entry in islice(entries, _WRITTEN_AT_ONCE)]:
        yield separator + b",\n".join(lines)
        separator = b",\n"
    yield b"\n]" + after + b"\n"


def decode_plan(content: bytes) -> Plan:
    """Return the plan of a file. Raises: msgspec.DecodeError for another content."""
    return PlanFile(content).plan()


class _Named(msgspec.Struct):
    name: str
    like: str = ""


class PlanFile:
    """A plan's file whose tasks are decoded when they are asked for: of 100,000 tasks a viewer shows 40."""

    def __init__(self, content: bytes) -> None:
        """Raises: msgspec.DecodeError for another content; of a line of a task only later."""
        file = msgspec.json.decode(content, type=_file_type())
        self._lines: list[msgspec.Raw] = file.tasks
        rest = {name: getattr(file, name) for name in Plan.__struct_fields__ if name != "tasks"}
        self.head = Plan(**rest, tasks=())
        """The plan without its tasks."""

    def plan(self) -> Plan:
        """Return the whole plan. Raises: msgspec.DecodeError."""
        return msgspec.structs.replace(self.head, tasks=_tasks(self._lines))

    def names(self) -> list[str]:
        """Return the names of all tasks, in order. Raises: msgspec.DecodeError."""
        return [one.name for one in map(msgspec.json.Decoder(_Named).decode, self._lines)]

    def plan_with(self, names: Collection[str]) -> Plan:
        """Return the plan with these of its tasks, and those that they are like. Raises: msgspec.DecodeError."""
        decode, wanted, lines = msgspec.json.Decoder(_Named).decode, set(names), []
        for line in reversed(self._lines):  # a task comes after the one that it is like
            if not wanted:
                break
            one = decode(line)
            if one.name in wanted:
                wanted.remove(one.name)
                wanted |= {one.like} - {""}
                lines.append(line)
        return msgspec.structs.replace(self.head, tasks=_tasks(reversed(lines)))


def _tasks(lines: Iterable[msgspec.Raw]) -> tuple[PlannedTask, ...]:
    first: dict[str, PlannedTask] = {}
    tasks = []
    whole = msgspec.json.Decoder(PlannedTask)
    fields = msgspec.json.Decoder(_RawFields)
    for line in lines:
        task = _copy(fields.decode(line), first) if _is_copy(line) else whole.decode(line)
        first.setdefault(task.name, task)
        tasks.append(task)
    return tuple(tasks)


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


def _entries(plan: Plan) -> Iterator[PlannedTask | dict[str, Any]]:
    """Yield what is written of each task."""
    first: dict[str, tuple[Any, ...]] = {}
    for task in plan.tasks:
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
