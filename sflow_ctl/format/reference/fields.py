"""Finds the meaning of every field: the docstring below it in `format/schema`.

The docstrings are read from the source, so that a run, which needs no meanings, pays nothing for them. The JSON Schema, the
Markdown reference and `describe` use them.
"""

import ast
import inspect
import re
import sys
import types
import typing
from functools import lru_cache
from typing import Any, Literal

import msgspec

from sflow_ctl.format import schema
from sflow_ctl.format.checking import nearest
from sflow_ctl.format.field_lookup import field_of, struct_at
from sflow_ctl.format.other_words import entry_example, example_of

_FOR_EXAMPLE = re.compile(r"for example `([^`]+)`")
_WORD = re.compile(r"`(\w+)`")
_WORDS = {str: "text", int: "number", float: "number", bool: "true/false", Any: "anything"}


class FieldDescription(msgspec.Struct, frozen=True):
    """A field of the format, in words."""

    path: str
    """As given: `workflow.tasks.probes`, or a field of a struct by itself, `Probe.interval`."""
    struct: str
    """Name of the struct that has the field."""
    takes: str
    """The values it accepts."""
    default: str
    """The default, "required", or "" for none."""
    meaning: str
    example: str
    """How a file writes it; empty where the default and the type say enough."""
    fields: tuple[str, ...] = ()
    """Names of the fields inside, if it is a mapping of its own."""


class UnknownFieldError(LookupError):
    """A path that does not lead to a field; `guess` is a similar name at that place, or None."""

    def __init__(self, path: str, key: str, guess: str | None, known: tuple[str, ...]) -> None:
        super().__init__(f'the format has no field "{key}" at "{path}"')
        self.key, self.guess, self.known = key, guess, known


def describe(path: str) -> FieldDescription:
    """Return the description of a field, such as `workflow.tasks.probes.readiness.interval` or `Task.script`.

    Names of entries and indices are not part of the path; `workflow.` may be left out before `tasks`. Raises: UnknownFieldError.
    """
    keys = path.replace("[]", "").split(".")
    kind: Any = schema.Document
    first = getattr(schema, keys[0], None)
    if isinstance(first, type) and issubclass(first, schema.Part):
        kind, keys = first, keys[1:]
    elif keys[0] == "tasks":
        kind = schema.Workflow
    elif keys[0] in schema.SiteFile.__struct_fields__ and field_of(schema.Document, keys[0]) is None:
        kind = schema.SiteFile
    for position, key in enumerate(keys):
        field = None if kind is None else field_of(kind, key)
        if field is None:
            known = () if kind is None else tuple(kind.__struct_encode_fields__)
            raise UnknownFieldError(path, key, nearest(key, known), known)
        inner = struct_at(kind, (key, "") if typing.get_origin(field.type) is dict else (key,))
        if position == len(keys) - 1:
            return FieldDescription(
                path=path,
                struct=kind.__name__,
                takes=takes(field.type),
                default=default_of(field),
                meaning=meanings(kind)[field.name],
                example=_example(key, field, meanings(kind)[field.name]),
                fields=() if inner is None else tuple(inner.__struct_encode_fields__),
            )
        kind = inner
    known = tuple(kind.__struct_encode_fields__)
    raise UnknownFieldError(path, "", None, known)


def _example(key: str, field: msgspec.structs.FieldInfo, meaning: str) -> str:
    """Return how a file writes a field: as hints have it, as its meaning has it, or made from its type."""
    known = example_of(key) or entry_example(key)
    if known is not None:
        return known
    in_meaning = _FOR_EXAMPLE.search(meaning)
    if in_meaning is not None:
        value = in_meaning[1]
        return value if value.startswith(f"{key}:") else f"{key}: {value}"
    accepted = takes(field.type)
    words = _WORD.findall(accepted)
    if words:
        return f"{key}: {next((word for word in words if word != str(field.default)), words[0])}"
    for kind, value in (("duration", "10m"), ("true/false", "true"), ("number", "2")):
        if accepted.startswith(kind):
            return f"{key}: {value}"
    return ""


@lru_cache(maxsize=256)
def meanings(part: type[schema.Part]) -> dict[str, str]:
    """Return field name to meaning, one line each, for a struct and those it extends. Fields without one are missing."""
    found: dict[str, str] = {}
    for base in reversed(part.__mro__):
        if isinstance(base, type) and issubclass(base, schema.Part):
            found |= _of_module(base.__module__).get(base.__name__, {})
    return {name: found[name] for name in part.__struct_fields__ if name in found}


def summary(part: type[schema.Part]) -> str:
    """Return a struct's own docstring in one line."""
    return " ".join((part.__doc__ or "").split())


def takes(annotation: Any) -> str:
    """Return the values that a field accepts, in words; structs are `[Name]`."""
    if is_duration(annotation):
        return "duration"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _with_short_form(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {takes(arguments[0])}"
    if origin is dict:
        return f"mapping to {takes(arguments[1])}"
    if origin in (types.UnionType, typing.Union):
        return _union(arguments)
    return _WORDS.get(annotation) or f"[{annotation.__name__}]"


def short_form(annotation: Any) -> str | None:
    """Return the short form that a type also takes, or None.

    "one": the only entry of a list; "count": the count of a mapping; "regexes": a mapping from names to patterns;
    "values": entries of a mapping as values alone; "items": the items of a mapping.
    """
    if typing.get_origin(annotation) is not typing.Annotated:
        return next(filter(None, map(short_form, typing.get_args(annotation))), None)
    extras = [getattr(meta, "extra", None) or {} for meta in annotation.__metadata__]
    return next((extra["short"] for extra in extras if "short" in extra), None)


def _with_short_form(annotation: Any) -> str:
    inner = typing.get_args(annotation)[0]
    match short_form(annotation):
        case "one":
            return f"{takes(typing.get_args(inner)[0])}, or a list of them"
        case "count":
            return f"{takes(inner)} or number"
        case "values":
            return f"{takes(inner)} or values"
        case "regexes":
            return f"{takes(inner)} or mapping to text"
        case "items":
            return f"{takes(inner)} or list or text"
        case _:
            return takes(inner)


def is_duration(annotation: Any) -> bool:
    """Return True for the type of durations."""
    return typing.get_origin(annotation) is typing.Annotated and any(
        (getattr(meta, "extra", None) or {}).get("kind") == "duration" for meta in annotation.__metadata__
    )


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """Return a field's default as a file would write it, "required", or "" for none."""
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT or field.default in (None, ""):
        return ""
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def _union(arguments: tuple[Any, ...]) -> str:
    """Name an alternative; numbers that may also be text are numbers that may be expressions."""
    rest = [argument for argument in arguments if argument is not types.NoneType]
    if {int, float, str} <= set(rest):
        others = [argument for argument in rest if argument not in (int, float, str)]
        return " or ".join(["number", *map(takes, others)])
    if set(rest) == {bool, str}:
        return "true/false"
    return " or ".join(map(takes, rest))


@lru_cache(maxsize=64)
def _of_module(module: str) -> dict[str, dict[str, str]]:
    """Return class name to field name to docstring of a schema module."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: _docstrings(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _docstrings(node: ast.ClassDef) -> dict[str, str]:
    found = {}
    for statement, after in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[statement.target.id] = " ".join(after.value.value.split())
    return found
