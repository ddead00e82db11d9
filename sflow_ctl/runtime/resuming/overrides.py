"""Values of outputs that a person has set: a record beside those that tasks have left, which stay as they are.

`outputs set` writes them; reruns, reuse, lists and the Python interface read outputs with them. One counts for the attempt that
it was set of: a task that has run again has outputs of its own.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from protocol.errors import UsageError
from protocol.messages.handover import PATH_KINDS, FoundOutput, OutputRule, RecordedFile
from protocol.typed_values import WrongTypeError, as_json, typed_text
from sflow_ctl.plan.graph import dependency_names
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.run_view import TaskRecord
from sflow_ctl.runtime.artifacts.checksum import sha256_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular, write_durably

if TYPE_CHECKING:
    from sflow_ctl.runtime.record.reader import RunReader


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """One value that was set, in `overrides.json`."""

    task: str
    attempt: int
    """The attempt whose output it replaces."""
    name: str
    value: Any = None
    files: tuple[RecordedFile, ...] = ()
    """Of an output that is files: what it is now."""
    old: Any = None
    """The value before."""
    by: str = ""
    """Who has set it."""
    at_ns: int = 0
    """When, in ns since 1970."""


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """`overrides.json`: the newest last."""

    schema: str = "sflow.overrides.v1"
    overrides: tuple[Override, ...] = ()

    def of(self, task: str, attempt: int) -> dict[str, Override]:
        """Return what counts for an attempt, by name of the output."""
        return {one.name: one for one in self.overrides if (one.task, one.attempt) == (task, attempt)}


NONE = Overrides()


def read_overrides(directory: Path) -> Overrides:
    """Return what was set in a run; nothing without a file. Raises: UsageError for one that cannot be read."""
    path = directory / layout.OVERRIDES
    try:
        return msgspec.json.decode(read_regular(path), type=Overrides)
    except FileNotFoundError:
        return NONE
    except (OSError, *UNREADABLE) as error:
        hint = "repair it, or delete it: the values that were set are lost then"
        raise UsageError.of("overrides-unreadable", f"{path} cannot be read: {error}", hint=hint) from error


def set_values(reader: "RunReader") -> dict[str, dict[str, Any]]:
    """Return the values that were set in a run and count now, by task and name. Raises: UsageError."""
    overrides = read_overrides(reader.directory)
    if not overrides.overrides:
        return {}
    reader.refresh()
    found: dict[str, dict[str, Any]] = {}
    for one in overrides.overrides:
        record = reader.state.tasks.get(one.task)
        if record is not None and record.attempts == one.attempt:
            found.setdefault(one.task, {})[one.name] = one.value
    return found


def set_output(
    directory: Path, task: PlannedTask, attempt: int, old: Mapping[str, Any], given: str, by: str
) -> Override:
    """Record another value, `NAME=VALUE` or `NAME=@PATH`, for an output. Raises: UsageError, OSError."""
    name, equals, text = given.partition("=")
    known = sorted({*old, *(rule.name for rule in task.found)})
    if not equals or name not in known:
        what = f'{task.name} has no output "{name}"' if equals else f'"{given}" is not NAME=VALUE'
        raise UsageError.of("unknown-output", what, hint=f"it has {', '.join(known)}")
    rule = next((one for one in task.found if one.name == name), None)
    value, files = _value(task.name, rule, name, text, old.get(name))
    made = Override(
        task=task.name,
        attempt=attempt,
        name=name,
        value=value,
        files=files,
        old=as_json(old.get(name)),
        by=by,
        at_ns=time.time_ns(),
    )
    whole = Overrides(overrides=(*read_overrides(directory).overrides, made))
    content = msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"
    write_durably(directory / layout.OVERRIDES, SECRETS.mask.raw(content))
    return made


def _value(
    task: str, rule: OutputRule | None, name: str, text: str, old: Any
) -> tuple[Any, tuple[RecordedFile, ...]]:
    """Return the value of a text, and the files that it is. Raises: UsageError."""
    kind = None if rule is None else rule.type
    if rule is not None and rule.kind in PATH_KINDS:
        if rule.kind != "file" or not text.startswith("@"):
            what = f"output {name} of {task} is of kind {rule.kind}"
            hint = (
                f"{name}=@PATH names a file"
                if rule.kind == "file"
                else "only single files and values can be set"
            )
            raise UsageError.of("wrong-output", what, hint=hint)
        path = Path(text[1:]).absolute()
        try:
            status = path.stat()
            file = RecordedFile(
                path=str(path), bytes=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256_of(path)
            )
        except OSError as error:
            raise UsageError.of(
                "wrong-output", f"{path} cannot be read: {error.strerror}", hint="name a file"
            ) from error
        return str(path), (file,)
    if text.startswith("@") and not text.startswith("@@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError.of(
                "wrong-output", f"{text[1:]} cannot be read: {error}", hint="name a text file"
            ) from error
    text = text.removeprefix("@") if text.startswith("@@") else text
    if rule is not None and rule.kind == "metric" and kind is None:
        kind = "float"
    try:
        return (typed_text(text, kind) if kind is not None else _guessed(text, old)), ()
    except WrongTypeError as error:
        raise UsageError.of(
            "wrong-output", f"output {name} of {task}: {error}", hint="give a value of its type"
        ) from error


def _guessed(text: str, old: Any) -> Any:
    """Return the value of a text for an output without a type: JSON unless the old value was a text."""
    if isinstance(old, str):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def with_overrides(
    found: Sequence[FoundOutput], values: Mapping[str, Any], given: Mapping[str, Override]
) -> tuple[tuple[FoundOutput, ...], dict[str, Any]]:
    """Return records and values of outputs as they count now."""
    if not given:
        return tuple(found), dict(values)
    records = tuple(_replaced(one, given[one.name]) if one.name in given else one for one in found)
    return records, {**values, **{name: one.value for name, one in given.items()}}


def _replaced(record: FoundOutput, given: Override) -> FoundOutput:
    files = given.files
    return FoundOutput(
        name=record.name,
        kind=record.kind,
        path=files[0].path if files else "",
        value=None if files else given.value,
        files=files,
        count=len(files),
        bytes=sum(one.bytes for one in files),
        sha256=files[0].sha256 if files else "",
        why=f"it was set by {given.by}" if given.by else "it was set",
    )


def stale_by_overrides(plan: Plan, records: Mapping[str, TaskRecord], overrides: Overrides) -> dict[str, str]:
    """Return the tasks whose results were made of outputs that were set afterwards, with the reason."""
    newest: dict[str, Override] = {}
    for one in overrides.overrides:
        record = records.get(one.task)
        if record is not None and record.attempts == one.attempt:
            newest[one.task] = one
    if not newest:
        return {}
    members = plan.members()
    stale = {}
    for task in plan.tasks:
        record = records.get(task.name)
        for name in dependency_names(task, members) if record is not None else ():
            given = newest.get(name)
            if given is not None and record is not None and (record.started_wall_ns or 0) < given.at_ns:
                stale[task.name] = f"it needs {name}, whose output {given.name} was set after that"
    return stale
