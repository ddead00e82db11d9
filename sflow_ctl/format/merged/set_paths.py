"""`--set PATH=VALUE` for any field of the document: finds the entry that has it, and checks that the format knows the path.

Variables are in `overrides`, which calls this for paths such as `workflow.timeout`, `tasks.train.resources.gpus.count`,
`backends.main.nodes` and `sweep.max_runs`. A misspelled key is refused, not created.
"""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.field_lookup import field_of
from sflow_ctl.format.merged.files import Merged
from sflow_ctl.format.merged.items import Item
from sflow_ctl.format.merged.short_forms import expand_short_forms
from sflow_ctl.format.yaml_source import value_of

_SECTIONS: dict[str, type[schema.Part]] = {
    "artifacts": schema.Artifact,
    "backends": schema.Backend,
    "operators": schema.Operator,
    "environments": schema.Environment,
    "storage": schema.Storage,
    "signatures": schema.Signature,
}
_SHORT = (
    "resources",
    "retries",
    "replicas",
    "script",
    "depends_on",
    "required_by",
    "outputs",
    "result",
    "environment",
)


class PathError(Exception):
    """A path that leads nowhere, or a value that cannot be there; with what to do about it."""

    def __init__(self, what: str, hint: str | None) -> None:
        super().__init__(what)
        self.hint = hint


def set_path(merged: Merged, key: str, text: str) -> Finding | None:
    """Set the field at a path; return what is wrong with it."""
    option = f"--set {key}={text}"
    try:
        _set(merged, key.split("."), _value(text), option)
    except PathError as error:
        return Finding("override-unknown", str(error), option, error.hint)
    return None


def _value(text: str) -> Any:
    """Return the value of a text as a file would have it. Raises: PathError."""
    try:
        return value_of(text)
    except ValueError as error:
        raise PathError(f"the value is not YAML: {error}", "put it in quotes") from error


def _set(merged: Merged, keys: list[str], value: Any, option: str) -> None:
    root, *rest = keys
    if root == "workflow" and rest[0] == "tasks":
        root, rest = "tasks", rest[1:]
    match root:
        case "tasks":
            item, path = _entry(merged.tasks, rest, "task")
            _assign(item, schema.Task, path, value, option)
            body = {name: item.body[name] for name in _SHORT if name in item.body}
            expand_short_forms(body)
            item.body.update(body)
        case "workflow" if rest == ["name"]:
            merged.workflow_name = value
        case "workflow":
            if merged.workflow is None:
                merged.workflow = Item("workflow", {}, merged.sources[0], ("workflow",))
            _assign(merged.workflow, schema.WorkflowSettings, rest, value, option)
        case "sweep":
            _check(schema.Sweep, _joined(rest))
            if merged.sweep is None:
                merged.sweep = Item("sweep", {}, merged.sources[0], ("sweep",))
            _assign(merged.sweep, schema.Sweep, _joined(rest), value, option)
        case "settings":
            body = {name: one for name, (one, _) in merged.site.items()}
            _put(schema.Settings, body, rest, rest, value)
            source = merged.site.get(rest[0], (None, merged.sources[0]))[1]
            merged.site[rest[0]] = (body[rest[0]], source)
        case _:
            item, path = _entry(merged.sections[root], rest, root.removesuffix("s"))
            _assign(item, _SECTIONS[root], path, value, option)


def _joined(path: list[str]) -> list[str]:
    """Return a path in a sweep with the path of an axis as one key: `axes.tasks.train.timeout`."""
    return [path[0], ".".join(path[1:])] if path[0] == "axes" and len(path) > 1 else path


def _entry(items: list[Item], keys: list[str], noun: str) -> tuple[Item, list[str]]:
    """Return the entry that a path begins with, whose name may have dots, and the rest. Raises: PathError."""
    for length in range(len(keys) - 1, 0, -1):
        name = ".".join(keys[:length])
        item = next((one for one in items if one.name == name), None)
        if item is not None:
            return item, keys[length:]
    names = [item.name for item in items]
    known = any(".".join(keys) == name for name in names)
    what = f'{noun} "{keys[0]}": name a field of it' if known else f'there is no {noun} "{keys[0]}"'
    raise PathError(what, guess_hint(keys[0], names, f"there is {', '.join(names[:10])}" if names else None))


def _check(kind: Any, path: list[str]) -> None:
    """Check that the format knows a whole path, before anything is changed. Raises: PathError."""
    for position, key in enumerate(path):
        kind = _type_at(kind, key, path[: position + 1])


def _assign(item: Item, kind: type[schema.Part], path: list[str], value: Any, option: str) -> None:
    _check(kind, path)
    _put(kind, item.body, path, path, value)
    item.note_given(tuple(path), option)


def _put(kind: Any, data: Any, path: list[str], whole: list[str], value: Any) -> None:
    """Put a value into plain data at a path that the type `kind` knows. Raises: PathError."""
    key, *rest = path
    inner = _type_at(kind, key, whole)
    if isinstance(data, list):
        if not key.isdigit() or int(key) >= len(data):
            raise PathError(
                f'"{key}" does not name an entry of this list', f"a number from 0 to {len(data) - 1}"
            )
        place: Any = int(key)
    else:
        place = key
    if not rest:
        data[place] = value
        return
    before = data[place] if isinstance(data, list) else data.get(place)
    if before is None:
        before = data[place] = {}
    if not isinstance(before, dict | list):
        done = whole[: len(whole) - len(rest)]
        what = f"{'.'.join(done)} is {before!r}, which has no fields"
        raise PathError(what, f"set {'.'.join(done)} as a whole")
    if isinstance(before, dict):  # the file's own data stays as it is
        before = data[place] = dict(before)
    _put(inner, before, rest, whole, value)


def _type_at(kind: Any, key: str, whole: list[str]) -> Any:
    """Return the type of what is at a key of a type. Raises: PathError."""
    known: list[str] = []
    for form in _forms(kind):
        if isinstance(form, type) and issubclass(form, msgspec.Struct):
            field = field_of(form, key)
            if field is not None:
                return field.type
            known += form.__struct_encode_fields__
        elif form is Any:
            return Any
        elif get_origin(form) is dict:
            return get_args(form)[1]
        elif get_origin(form) is list and key.isdigit():
            return get_args(form)[0]
    place = ".".join(whole[: whole.index(key)])
    what = f'the format has no field "{key}"' + (f' at "{place}"' if place else "")
    raise PathError(
        what, guess_hint(key, known, f"there is {', '.join(known[:12])}" if known else "it is one value")
    )


def _forms(kind: Any) -> Iterator[Any]:
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _forms(get_args(kind)[0])
    elif origin in (Union, UnionType):
        for one in get_args(kind):
            yield from _forms(one)
    else:
        yield kind
