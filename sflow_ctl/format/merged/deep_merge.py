"""Merges what a later file says of an entry into what earlier files say: mappings key by key, the later leaf wins.

Lists are leaves, and null is one that clears. Called by `files`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import msgspec
from msgspec import Struct

from protocol.errors import Finding
from sflow_ctl.format.field_lookup import dotted
from sflow_ctl.format.merged.items import FilePart, Item, Path
from sflow_ctl.format.written import as_written, variable_value
from sflow_ctl.format.yaml_values import plain_scalar, unquoted

_MAX_SHOWN = 80
_BY_NAME = "variables"


class MergedLeaf(Struct, frozen=True):
    """A leaf to which a later file gives another value."""

    path: Path
    old: Any
    new: Any
    old_file: str
    where: str
    variable: str | None = None
    """The variable whose value it is, which may be a secret."""

    def warning(self, secrets: Sequence[str]) -> Finding:
        """Return the sentence about the change; values of secrets are not shown."""
        is_secret = self.variable in secrets
        old, new = ("***", "***") if is_secret else (_shown(self.old), _shown(self.new))
        what = f"{dotted(self.path)} is {new} and replaces {old} from {self.old_file}"
        return Finding("merged-value", what, self.where)


def merge_item(item: Item, later: Item, shown: Path) -> list[MergedLeaf]:
    """Merge a later file's entry of the same name into an item; `shown` is its path in messages."""
    layer = FilePart(later.source, later.path, later.is_shorthand)
    changes = list(_changes(item, layer, later.body, shown))
    item.body = merged_body(item.body, later.body)
    item.later += (layer,)
    return changes


def merged_body(old: dict[Any, Any], new: dict[Any, Any]) -> dict[Any, Any]:
    """Return a mapping with another merged into it."""
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            result[key] = merged_body(before, value)
        elif key == _BY_NAME and _are_named(before) and _are_named(value):
            result[key] = _merged_by_name(before, value)
        else:
            result[key] = value
    return result


def _are_named(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in value
    )


def _by_name(entries: list[dict[str, Any]]) -> dict[Any, Any]:
    return {one["name"]: one for one in entries}


def _merged_by_name(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the variables of a task, those of one name merged, in the place of the first."""
    by_name = _by_name(old)
    for one in new:
        by_name[one["name"]] = merged_body(by_name.get(one["name"], {}), one)
    return list(by_name.values())


def _changes(item: Item, layer: FilePart, new: dict[Any, Any], shown: Path) -> Iterator[MergedLeaf]:
    is_variable = _BY_NAME in shown
    for path, before, after in _leaves(item.body, new, ()):
        if path[0] == "name":
            continue
        old_file = str(item.layer_of(path).source.path)
        where = f"{layer.source.where(layer.path_of(path))}"
        variable = item.name if is_variable else _own_variable(path)
        yield MergedLeaf((*shown, *path), before, after, old_file, where, variable)


def _own_variable(path: Path) -> str | None:
    """Return the variable of a task that a path is about."""
    return str(path[1]) if len(path) > 1 and path[0] == _BY_NAME else None


def _leaves(old: dict[Any, Any], new: dict[Any, Any], path: Path) -> Iterator[tuple[Path, Any, Any]]:
    for key, value in new.items():
        if key not in old:
            continue
        before = old[key]
        here = (*path, str(key))
        if isinstance(before, dict) and isinstance(value, dict):
            yield from _leaves(before, value, here)
        elif key == _BY_NAME and _are_named(before) and _are_named(value):
            yield from _leaves(_by_name(before), _by_name(value), here)
        elif type(before) is not type(value) or before != value:
            yield here, before, value


def _shown(value: Any) -> str:
    try:
        text = msgspec.json.encode(as_written(value)).decode()
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def settle_variable(item: Item) -> None:
    """Read a variable that several files define a part of once more: its type may be another file's than its value."""
    if not item.later:
        return
    kind = item.body.get("type")
    item.body["value"] = _reread(item, ("value",), item.body.get("value"), kind)
    domain = item.body.get("domain")
    if isinstance(domain, list):
        item.body["domain"] = [
            _reread(item, ("domain", index), one, kind) for index, one in enumerate(domain)
        ]


def _reread(item: Item, path: Path, value: Any, kind: Any) -> Any:
    layer = item.layer_of(path)
    node = layer.source.node(layer.path_of(path))
    text = unquoted(node)
    return value if text is None else variable_value(plain_scalar(text), node, kind)
