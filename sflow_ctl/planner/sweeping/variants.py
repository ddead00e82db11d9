"""A task as one cell has it: with the fields that the cell changes, and with other tasks named as the cell's own.

In a cell `${{ task.train }}` is the cell's task `train`: its expressions get the concrete name before they are evaluated, now or
when the task starts.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import fields, replace

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.checking import check
from sflow_ctl.format.merged.short_forms import expand_short_forms
from sflow_ctl.format.sweep_paths import SweepPath
from sflow_ctl.planner.findings import UnplannableError

_EXPRESSION = lazy_pattern(r"\$\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_NAMED = lazy_pattern(
    r"\btask(?:\.(?P<name>\w+)|\[\s*[\"'](?P<quoted>[^\"']+)[\"']\s*\])(?P<index>\s*\[\s*\d+\s*\])?"
)
Names = Mapping[str, Sequence[str]]
"""Tasks of the same sweep as written, and the names of their copies in the cell."""
Change = tuple[SweepPath, Any]


def changed(task: schema.Task, changes: Sequence[Change]) -> schema.Task:
    """Return a task with other values in some fields. Raises: UnplannableError for values that the fields cannot have."""
    result = task
    types = {field.name: field.type for field in fields(schema.Task)}
    for path, value in changes:
        field, inside = path.parts[2], path.parts[3:]
        if field == "variables":
            own = [replace(one, value=value) if one.name == inside[0] else one for one in result.variables]
            result = replace(result, variables=own)
            continue
        body = {field: _with(msgspec.to_builtins(getattr(result, field), enc_hook=str), inside, value)}
        expand_short_forms(body)
        found: list[Finding] = []
        checked = check(types[field], body[field], (field,), lambda _path: None, found)
        if found:
            what = f"{path.written} of the sweep: {found[0].what}"
            raise UnplannableError(found[0].code, what, found[0].hint)
        result = replace(result, **{field: checked})
    return result


def _with(data: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    given = data if isinstance(data, dict) else {} if data is None else {"count": data}
    return {**given, path[0]: _with(given.get(path[0]), path[1:], value)}


class CellNames:
    """Puts the names of a cell's tasks into the expressions of one task."""

    def __init__(self, task: schema.Task, swept: Names) -> None:
        """`swept` are those of any cell: which fields name one of them is the same in all."""
        self._fields = tuple(
            name
            for name in schema.Task.__struct_fields__
            if _rewritten(getattr(task, name), swept, task.name) is not getattr(task, name)
        )

    def __bool__(self) -> bool:
        return bool(self._fields)

    def put(self, task: schema.Task, names: Names) -> schema.Task:
        """Return the task with the names of a cell."""
        return replace(
            task, **{field: _rewritten(getattr(task, field), names, task.name) for field in self._fields}
        )


def _rewritten(value: Any, names: Names, own: str) -> Any:
    """Return a value of the task `own` with names of the cell's tasks, the same object where nothing changes."""
    if isinstance(value, str):
        return _text(value, names) if "task" in value else value
    if isinstance(value, schema.LogWatch) and value.logger is not None:
        value = _of_logger(value, names, own)
    if isinstance(value, list):
        inside = [_rewritten(one, names, own) for one in value]
        return value if all(map(_is_same, inside, value)) else inside
    if isinstance(value, dict):
        members = {key: _rewritten(one, names, own) for key, one in value.items()}
        return value if all(members[key] is one for key, one in value.items()) else members
    if isinstance(value, msgspec.Struct):
        changes = {}
        for name in value.__struct_fields__:
            before = getattr(value, name)
            after = _rewritten(before, names, own)
            if after is not before:
                changes[name] = after
        return replace(value, **changes) if changes else value
    return value


def _is_same(one: Any, other: Any) -> bool:
    return one is other


def _of_logger(watch: schema.LogWatch, names: Names, own: str) -> schema.LogWatch:
    base, _, index = str(watch.logger).partition("[")
    copies = names.get(base)
    if not copies:
        return watch
    if base == own and len(copies) == 1:
        return replace(watch, logger=None)
    if len(copies) == 1 or index:
        number = int(index.rstrip("]")) if index.rstrip("]").isdigit() else 0
        return replace(watch, logger=copies[min(number, len(copies) - 1)])
    return watch


def _text(text: str, names: Names) -> str:
    def named(match: re.Match[str]) -> str:
        copies = names.get(match["name"] or match["quoted"])
        if copies is None:
            return match[0]
        index = match["index"]
        if index is not None:
            number = int(index.strip().strip("[]"))
            return f'task["{copies[number]}"]' if number < len(copies) else match[0]
        one = [f'task["{name}"]' for name in copies]
        return one[0] if len(one) == 1 else f"[{', '.join(one)}]"

    def of_expression(match: re.Match[str]) -> str:
        return _NAMED.sub(named, match[0])

    done = _EXPRESSION.sub(of_expression, text)
    return text if done == text else done
