"""Keys of entries that sflow ignores: those of backends, operators and storage that their type does not have.

A file that runs there runs here, so they are a warning, unless they look like a misspelling. `--strict` refuses all of
them. Called by the assembly before an entry is checked.
"""

from collections.abc import Mapping, Set
from typing import Any

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.merged.items import Item

_UNREAD = frozenset({"kubernetes", "k8s", "k8s_mpi"})
"""Types of backends and operators that are not run here, whatever their fields."""
_KEPT_OF_UNREAD = frozenset({"name", "type", "default", "nodes", "gpus_per_node"})
_FIELDS: dict[str, Mapping[str, Set[str]]] = {
    "backends": schema.BACKEND_FIELDS,
    "operators": {kind: {*fields, "extends"} for kind, fields in schema.OPERATOR_FIELDS.items()},
    "storage": {"s3": frozenset(schema.Storage.__struct_fields__)},
}


def without_ignored(section: str, item: Item, found: list[Finding]) -> dict[str, Any]:
    """Return an entry's body without the keys that are ignored; a finding about each is added to `found`."""
    by_type = _FIELDS.get(section)
    kind = item.body.get("type")
    if by_type is None or not isinstance(kind, str):
        return item.body
    if kind in _UNREAD:
        return {key: value for key, value in item.body.items() if key in _KEPT_OF_UNREAD}
    if kind not in by_type:
        return item.body
    known = {*by_type[kind], "name", "type"}
    kept = dict(item.body)
    for key in [key for key in item.body if isinstance(key, str) and key not in known]:
        if item.body[key] is None:
            del kept[key]
        elif nearest(key, sorted(known)) is None:
            found.append(_finding(section, item, key, kind))
            del kept[key]
    return kept


def _finding(section: str, item: Item, key: str, kind: str) -> Finding:
    noun = {"backends": "backend", "operators": "operator"}.get(section, "storage target")
    what = f'key "{key}" has no meaning for {noun} "{item.name}" of type {kind}: it is ignored'
    return Finding("ignored-key", what, item.where(key), "remove it, or change the type")
