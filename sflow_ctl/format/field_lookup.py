"""Finds the struct, fields and allowed words at a path of the schema, for messages and explanations.

A path is what a file has: `("workflow", "tasks", 3, "probes")`. Nothing here reads data.
"""

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from sflow_ctl.format import schema

PathKey = str | int


def dotted(path: Sequence[PathKey]) -> str:
    """Return a path as people write it, `workflow.tasks[3].script`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def struct_at(kind: type, path: Sequence[PathKey]) -> Any:
    """Return the struct at `path` below `kind`, or None."""
    found: Any = kind
    is_of_mapping = False
    for position, key in enumerate(path):
        if is_of_mapping:
            is_of_mapping = False
        elif isinstance(key, str):
            field = field_of(found, key)
            following = path[position + 1] if position + 1 < len(path) else None
            form = None if field is None else _form(field.type, following)
            found = None if form is None else _first_struct(form)
            is_of_mapping = get_origin(form) is dict
        if found is None:
            return None
    return found


def _form(annotation: Any, following: PathKey | None) -> Any:
    """Return the part of a type that a value has whose next key is `following`: a list's entry, or else the first form."""
    if get_origin(annotation) not in (UnionType, Union):
        return annotation
    forms = [one for one in get_args(annotation) if _first_struct(one) is not None]
    if isinstance(following, int):
        forms = [one for one in forms if get_origin(one) is list] or forms
    return forms[0] if forms else annotation


def field_of(kind: Any, key: str) -> msgspec.structs.FieldInfo | None:
    """Return the field of a struct that a file calls `key`, or None."""
    return next((one for one in msgspec.structs.fields(kind) if one.encode_name == key), None)


def fields_at(kind: type, path: Sequence[PathKey]) -> tuple[str, ...]:
    """Return the names of the fields of the struct at `path` below `kind`."""
    found = struct_at(kind, path)
    return () if found is None else tuple(found.__struct_encode_fields__)


def words_at(kind: type, path: Sequence[PathKey]) -> tuple[str, ...]:
    """Return the words that the field at `path` below `kind` accepts."""
    while path and isinstance(path[-1], int):  # a member of a list
        path = path[:-1]
    found = struct_at(kind, path[:-1]) if path else None
    field = None if found is None or not isinstance(path[-1], str) else field_of(found, path[-1])
    return () if field is None else tuple(_literals(field.type))


def _literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for argument in get_args(annotation):
            yield from _literals(argument)


def _first_struct(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, schema.Part):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _first_struct(argument)
        if found is not None:
            return found
    return None
