"""The outputs of a run's tasks as its directory has them, for `outputs` and `collect`."""

import fnmatch
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from protocol.messages.handover import PATH_KINDS, FoundOutput, RecordedFile
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.results.recorded import block_values, found_in, values_of
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.resuming.overrides import read_overrides, with_overrides


class ListedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a completed task."""

    task: str
    """The concrete task."""
    attempt: int
    """The number of the attempt that has written it; 0 for a value of the log, which is not recorded by attempt."""
    name: str
    kind: str
    """As in the file; `value` for values of the log, and for outputs of blocks."""
    value: Any = None
    """Of a metric, a parameter or a value."""
    path: str = ""
    """The absolute path of a file, directory or manifest; of several files of the directory that has them all."""
    files: tuple[RecordedFile, ...] = ()
    """Each file with its size, its time and its digest."""
    bytes: int = 0
    """Of all files."""
    sha256: str = ""
    """Of the only file, or of the list of all; empty if it was not computed."""
    why: str = ""
    """Why this one of several; or why there is none."""
    is_missing: bool = False
    """Nothing was found, and it need not be there."""
    is_default: bool = False
    """The value is the default of the file."""
    set_by: str = ""
    """Who has set it since, with `outputs set`; empty for what the task has left."""


def outputs_of(
    reader: RunReader, tasks: Collection[str] | None = None, names: Sequence[str] = ()
) -> list[ListedOutput]:
    """Return the outputs of the tasks that have completed, in the order of the plan; `names` are patterns of their names."""
    listed: list[ListedOutput] = []
    overrides = read_overrides(reader.directory)
    for task in reader.plan.tasks:
        record = reader.state.tasks.get(task.name)
        is_done = record is not None and record.state is TaskState.COMPLETED
        if not is_done or (tasks is not None and task.name not in tasks):
            continue
        listed += _of_block(task)
        if not task.has_values:
            continue
        document = _document(reader.directory / task.name / "outputs.json")
        given = overrides.of(task.name, record.attempts) if record is not None else {}
        found, values = with_overrides(
            found_in(document) or (), values_of(document, task.outputs) or {}, given
        )
        attempt = document.get("attempt", 0) if isinstance(document, dict) else 0
        listed += [
            ListedOutput(
                task=task.name,
                attempt=attempt,
                name=one.name,
                kind=one.kind,
                value=one.value,
                path=one.path,
                files=one.files,
                bytes=one.bytes if one.kind in PATH_KINDS or one.is_large else 0,
                sha256=one.sha256,
                why=one.why,
                is_missing=one.is_missing,
                is_default=one.is_default,
                set_by=given[one.name].by if one.name in given else "",
            )
            for one in found
        ]
        known = {one.name for one in found}
        listed += [
            ListedOutput(
                task=task.name,
                attempt=0,
                name=name,
                kind="value",
                value=value,
                set_by=given[name].by if name in given else "",
            )
            for name, value in values.items()
            if name not in known
        ]
    return [one for one in listed if not names or any(fnmatch.fnmatchcase(one.name, name) for name in names)]


def found_outputs(reader: RunReader) -> dict[str, dict[str, FoundOutput]]:
    """Return what agents have found of the outputs of tasks, by task and name."""
    return {
        task.name: {
            one.name: one for one in found_in(_document(reader.directory / task.name / "outputs.json")) or ()
        }
        for task in reader.plan.tasks
        if task.found
    }


def _of_block(task: PlannedTask) -> list[ListedOutput]:
    given = (block_values(task) or {}).items()
    return [
        ListedOutput(task=task.name, attempt=0, name=name, kind="value", value=one) for name, one in given
    ]


def _document(path: Path) -> Any:
    try:
        return msgspec.json.decode(read_regular(path))
    except (OSError, *UNREADABLE):
        return None
