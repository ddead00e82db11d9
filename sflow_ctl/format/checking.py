"""Data against the schema, with every finding at once.

msgspec checks fast and stops at the first problem. So each problem is noted, what is wrong is taken out,
and the rest is checked again: a good file is checked once, a bad one as often as it has problems.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from protocol.errors import Finding
from sflow_ctl.format import schema

T = TypeVar("T")
PathKey = str | int
Where = Callable[[Sequence[PathKey]], str | None]

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`(?: - at `(?P<path>.*)`)?$")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`(?: - at `(?P<path>.*)`)?$")
_KEY = re.compile(r"Expected `str` - at `key` in `(?P<path>.*)`$")
_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[(\.\.\.)\]")
MAX_FINDINGS = 200
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def check(
    kind: type[T], data: Any, base: tuple[PathKey, ...], where: Where, findings: list[Finding]
) -> T | None:
    """`data` as a `kind`, or None with everything that is wrong with it added to `findings`."""
    try:
        return msgspec.convert(data, kind, strict=True)
    except msgspec.ValidationError as first:
        error: msgspec.ValidationError = first
    rest = copy.deepcopy(data)
    removed: set[tuple[PathKey, ...]] = set()
    while len(findings) < MAX_FINDINGS:
        path, finding = _finding(error, rest, base, where, kind)
        if path not in removed:
            if finding not in findings:
                findings.append(finding)
        else:  # a required value that was taken out, and is noted: what it was part of goes as well
            while path in removed:
                path = path[:-1]
        if not _remove(rest, path):
            return None
        removed.add(path)
        try:
            msgspec.convert(rest, kind, strict=True)
        except msgspec.ValidationError as next_error:
            error = next_error
        else:
            return None
    return None


def nearest(word: str, candidates: Sequence[str]) -> str | None:
    """The candidate a person probably meant, or None."""
    import difflib  # only when something is wrong

    found = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return found[0] if found else None


def describe(base: Sequence[PathKey]) -> str:
    """`workflow.tasks[3].script` for a path."""
    text = ""
    for key in base:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _finding(
    error: msgspec.ValidationError, data: Any, base: tuple[PathKey, ...], where: Where, kind: type
) -> tuple[tuple[PathKey, ...], Finding]:
    message = str(error)
    if match := _UNKNOWN.match(message):
        path = (*_parse_path(match["path"], data), match["field"])
        full = (*base, *path)
        guess = nearest(match["field"], _fields_at(kind, path[:-1]))
        hint = (
            f'did you mean "{guess}"?' if guess else f"allowed here: {', '.join(_fields_at(kind, path[:-1]))}"
        )
        what = f'unknown key "{match["field"]}": Extra inputs are not permitted'
        return path, Finding("unknown-key", what, _place(where, full), hint)
    if match := _MISSING.match(message):
        path = (*_parse_path(match["path"], data), match["field"])
        full = (*base, *path)
        what = f'"{match["field"]}" is missing'
        return path, Finding("missing-key", what, _place(where, full), f'add "{match["field"]}:"')
    if match := _KEY.match(message):
        path = _parse_path(match["path"], data)
        here = _get(data, path)
        key = (
            next((one for one in here if not isinstance(one, str)), None) if isinstance(here, dict) else None
        )
        path = (*path, key) if key is not None else path
        what = f"the key {str(key).lower()} is not text: YAML reads on, off, yes, no and numbers as values"
        allowed = ", ".join(_fields_at(kind, path[:-1]))
        hint = f"allowed here: {allowed}" if allowed else "put it in quotes"
        return path, Finding("wrong-type", what, _place(where, (*base, *path[:-1])), hint)
    match = _AT.match(message)
    assert match is not None
    path = _parse_path(match["path"], data)
    full = (*base, *path)
    if match["what"].startswith("Invalid enum value"):
        return path, _wrong_word(_get(data, path), _words_at(kind, path), _place(where, full))
    return path, Finding(
        "wrong-type", _explain(match["what"]), _place(where, full), _type_hint(match["what"], path)
    )


def _wrong_word(value: Any, words: Sequence[str], place: str) -> Finding:
    """A text that is none of those that a field takes."""
    guess = nearest(str(value), words)
    hint = f'did you mean "{guess}"?' if guess else f"one of {', '.join(words)}"
    return Finding("wrong-value", f'"{value}" is not one of {", ".join(words)}', place, hint)


def _words_at(kind: type, path: Sequence[PathKey]) -> tuple[str, ...]:
    """The words that the field at `path` below `kind` takes."""
    found = _struct_at(kind, path[:-1])
    fields = [] if found is None else msgspec.structs.fields(found)
    types = [field.type for field in fields if field.encode_name == path[-1]]
    return tuple(_literals(types[0])) if types else ()


def _literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for argument in get_args(annotation):
            yield from _literals(argument)


def _explain(what: str) -> str:
    match = re.match(r"Expected `(.*)`, got `(.*)`$", what)
    if match is None:
        return what[0].lower() + what[1:]
    wanted = " or ".join(_WORDS.get(word.strip(), word.strip()) for word in match[1].split("|"))
    return f"expected {wanted}, found {_WORDS.get(match[2], match[2])}"


def _type_hint(what: str, path: tuple[PathKey, ...]) -> str | None:
    if "got `object`" in what and "str" in what:
        return 'quote the line: an unquoted `: ` makes it a mapping, as in - echo "a: b"'
    if path and path[-1] == "version":
        return 'quote it: version: "0.1"'
    if "Expected `array`" in what:
        return "write a list: [a, b], or one item a line beginning with `- `"
    if what.startswith("Expected `str"):
        return "put it in quotes"
    return None


def _parse_path(text: str | None, data: Any) -> tuple[PathKey, ...]:
    """`$.a.b[0]` as keys. `[...]` stands for some key of a mapping: the first whose value is no text is
    meant.
    """
    keys: list[PathKey] = []
    steps = _STEP.findall((text or "$")[1:])
    for number, (name, index, any_key) in enumerate(steps):
        here = _get(data, keys)
        if any_key:
            after = steps[number + 1][0] if number + 1 < len(steps) else ""
            bad = (
                next((key for key, value in here.items() if _may_be_bad(value, after)), None)
                if isinstance(here, dict)
                else None
            )
            if bad is None:
                break
            keys.append(bad)
        else:
            keys.append(int(index) if index else name)
    return tuple(keys)


def _may_be_bad(value: Any, inside: str) -> bool:
    """Whether an entry of a mapping, or what it has under the name `inside`, is no text."""
    if inside:
        return isinstance(value, dict) and not isinstance(value.get(inside, ""), str)
    return not isinstance(value, str)


def _get(data: Any, keys: Sequence[PathKey]) -> Any:
    for key in keys:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _remove(data: Any, path: tuple[PathKey, ...]) -> bool:
    """Takes the value at `path` out of `data`, so that the rest can be checked; False when that is
    impossible.
    """
    if not path:
        return False
    parent = _get(data, path[:-1])
    key = path[-1]
    if isinstance(parent, dict):
        parent.pop(key, None)
        return True
    if isinstance(parent, list) and isinstance(key, int) and key < len(parent):
        parent[key] = ""
        return True
    return False


def _place(where: Where, path: Sequence[PathKey]) -> str:
    place = where(path)
    field = describe(path)
    return "  ".join(part for part in (place, field) if part)


def _fields_at(kind: type, path: Sequence[PathKey]) -> tuple[str, ...]:
    """The fields of the struct that stands at `path` below `kind`."""
    found = _struct_at(kind, path)
    return () if found is None else tuple(found.__struct_encode_fields__)


def _struct_at(kind: type, path: Sequence[PathKey]) -> Any:
    """The struct that stands at `path` below `kind`, or None."""
    found: Any = kind
    is_of_mapping = False
    for key in path:
        if is_of_mapping:
            is_of_mapping = False
        elif isinstance(key, str):
            field = next((one for one in msgspec.structs.fields(found) if one.encode_name == key), None)
            found = None if field is None else _first_struct(field.type)
            is_of_mapping = field is not None and get_origin(field.type) is dict
        if found is None:
            return None
    return found


def _first_struct(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, schema.Part):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _first_struct(argument)
        if found is not None:
            return found
    return None
