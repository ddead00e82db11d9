"""YAML files as plain data with places: the only module that knows the YAML library.

YAML 1.1 as the format uses it, without its traps: base-60 numbers and dates stay text, `1e-4` is a
number, and a duplicate key is
an error. Places are looked up in the parsed nodes when something is wrong, so a good file pays nothing
for them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.resolver import Resolver

from protocol.errors import Finding

PathKey = str | int

_BOOL = {
    word: value
    for value, words in (
        (True, "yes Yes YES true True TRUE on On ON"),
        (False, "no No NO false False FALSE off Off OFF"),
    )
    for word in words.split()
}
_INT = re.compile(r"[-+]?(?:0b[0-1_]+|0[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
)
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_STARTS_PLAIN = frozenset("0123456789+-.~nNyYtToOfF")
_STR_TAG = "tag:yaml.org,2002:str"


class _PlainResolver(Resolver):
    """Leaves untagged scalars alone: this module gives them their meaning itself, faster and without
    traps.
    """

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The plain tag of a kind; "" marks an unquoted scalar."""
        if kind is yaml.ScalarNode:
            return "" if implicit[0] else _STR_TAG
        return "map" if kind is yaml.MappingNode else "seq"


_PARSERS: tuple[type, ...] = (
    (yaml.CSafeLoader.__mro__[1],)
    if yaml.__with_libyaml__
    else (yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer)
)


class _Loader(*_PARSERS, _PlainResolver):  # type: ignore[misc]
    """libyaml's parser where PyYAML has it, ten times as fast as its own."""

    def __init__(self, text: str) -> None:
        _PARSERS[0].__init__(self, text)  # type: ignore[misc]
        for base in (*_PARSERS[1:], _PlainResolver):
            base.__init__(self)  # type: ignore[misc]


class _ProblemError(Exception):
    """Something in a file that is no valid data."""

    def __init__(self, code: str, what: str, node: yaml.Node, hint: str | None = None) -> None:
        self.code, self.what, self.node, self.hint = code, what, node, hint


@dataclass(slots=True)
class Source:
    """One file: its data, and where each part of it stands."""

    path: Path
    data: Any
    root: yaml.Node
    text: str

    def where(self, path: Sequence[PathKey]) -> str | None:
        """`file:line:column` of the value at `path`, or None when this file has nothing there.

        A key that is missing is placed at its parent; so is one that came from a merge key.
        """
        node: yaml.Node | None = self.root
        for key in path:
            found = _child(node, key)
            if found is None:
                break
            node = found
        return None if node is None else f"{self.path}:{_place(node)}"

    def has(self, path: Sequence[PathKey]) -> bool:
        """True when this file itself says something at `path`."""
        node: yaml.Node | None = self.root
        for key in path:
            node = _child(node, key)
            if node is None:
                return False
        return True

    def key_where(self, path: Sequence[PathKey]) -> str | None:
        """Where the last key of `path` itself stands."""
        node: yaml.Node | None = self.root
        for key in path[:-1]:
            node = _child(node, key)
        if isinstance(node, yaml.MappingNode):
            for key_node, _ in node.value:
                if key_node.value == str(path[-1]):
                    return f"{self.path}:{_place(key_node)}"
        return self.where(path)


def read_source(path: Path, kind: str = "workflow file") -> tuple[Source | None, list[Finding]]:
    """The file's data, or what is wrong with it as YAML. `kind` is what messages call it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        is_default = str(path) == "sflow.yaml"
        hint = "name a workflow file, or run this where a sflow.yaml is" if is_default else "correct the path"
        return None, [Finding("file-not-found", f"the {kind} {path} does not exist", str(path), hint)]
    except IsADirectoryError:
        return None, [Finding("file-not-found", f"{path} is a directory, not a {kind}", str(path))]
    except (OSError, UnicodeDecodeError) as error:
        return None, [Finding("file-not-readable", f"the {kind} {path} cannot be read: {error}", str(path))]
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, [Finding("file-empty", f"the {kind} {path} is empty", str(path))]
        return Source(path, _value(root), root, text), []
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(path)
        what = f"not valid YAML: {error.problem or error.context}"
        hint = "check indentation and quoting; a value with `: ` or ` #` in it needs quotes"
        return None, [Finding("yaml-syntax", what, where, hint)]
    except yaml.YAMLError as error:
        return None, [Finding("yaml-syntax", f"not valid YAML: {error}", str(path))]
    except RecursionError:
        return None, [Finding("yaml-syntax", "not valid YAML: nested too deeply", str(path))]
    except _ProblemError as problem:
        where = f"{path}:{_place(problem.node)}"
        return None, [Finding(problem.code, problem.what, where, problem.hint)]


def dump(data: Any) -> str:
    """`data` as block-style YAML, in its own order, long texts as literal blocks."""
    base = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper

    class Dumper(base):  # type: ignore[misc, valid-type]
        def ignore_aliases(self, data: Any) -> bool:
            """Equal parts are written out: a composed file is for reading."""
            return True

    def text(dumper: Any, value: str) -> yaml.Node:
        style = "|" if "\n" in value else None
        # Text that YAML 1.1 elsewhere would read as something else (base 60, dates) is quoted.
        if style is None and (plain_scalar(value) != value or re.match(r"[-+]?\d[\d:_-]*$", value)):
            style = '"'
        node: yaml.Node = dumper.represent_scalar(_STR_TAG, value, style=style)
        return node

    Dumper.add_representer(str, text)
    dumped: str = yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return dumped


def plain_scalar(text: str) -> Any:
    """What an unquoted scalar means."""
    if not text:
        return None
    if text[0] not in _STARTS_PLAIN:
        return text
    if text in _BOOL:
        return _BOOL[text]
    if text in _NULL:
        return None
    if _INT.match(text):
        return _integer(text)
    if _FLOAT.match(text):
        return float(text.replace("_", "").replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").replace(".nan", "nan").replace(".NaN", "nan").replace(".NAN", "nan"))  # fmt: skip  # noqa: E501
    return text


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    sign = -1 if digits[0] == "-" else 1
    digits = digits.lstrip("+-")
    if not digits:
        return text
    if digits.startswith("0b"):
        return sign * int(digits[2:], 2)
    if digits.startswith("0x"):
        return sign * int(digits[2:], 16)
    if digits[0] == "0" and len(digits) > 1:
        return sign * int(digits, 8)
    return sign * int(digits) if len(digits) < 4000 else text


def _value(node: yaml.Node, depth: int = 0) -> Any:
    if depth > 200:
        raise _ProblemError(
            "yaml-syntax", "not valid YAML: nested too deeply, or an alias contains itself", node
        )
    if isinstance(node, yaml.ScalarNode):
        if node.tag == "":
            return plain_scalar(node.value)
        if node.tag == _STR_TAG or node.tag == "!":
            return node.value
        return _tagged(node)
    if isinstance(node, yaml.SequenceNode):
        _check_tag(node, ("seq", "tag:yaml.org,2002:seq"))
        return [_value(item, depth + 1) for item in node.value]
    assert isinstance(node, yaml.MappingNode)
    _check_tag(node, ("map", "tag:yaml.org,2002:map"))
    return _mapping(node, depth)


def _tagged(node: yaml.ScalarNode) -> Any:
    match node.tag:
        case (
            "tag:yaml.org,2002:int"
            | "tag:yaml.org,2002:float"
            | "tag:yaml.org,2002:bool"
            | "tag:yaml.org,2002:null"
        ):
            return plain_scalar(node.value)
        case _:
            raise _ProblemError("yaml-tag", f"the tag {node.tag} is not allowed", node, "write plain values")


def _check_tag(node: yaml.Node, allowed: tuple[str, ...]) -> None:
    if node.tag not in allowed:
        raise _ProblemError("yaml-tag", f"the tag {node.tag} is not allowed", node, "write plain values")


def _mapping(node: yaml.MappingNode, depth: int) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    lines: dict[Any, yaml.Node] = {}
    merged: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _ProblemError("yaml-key", "a mapping's key must be plain text", key_node)
        if key_node.value == "<<" and key_node.tag == "":
            for source in _merge_sources(value_node, depth):
                merged = {**source, **merged}
            continue
        key = _value(key_node)
        if key in lines:
            first = lines[key].start_mark.line + 1
            raise _ProblemError(
                "duplicate-key",
                f'the key "{key}" stands twice in one mapping: first in line {first}, again in line '
                f"{key_node.start_mark.line + 1}",
                key_node,
                "remove one of them: only the last would count",
            )
        lines[key] = key_node
        result[key] = _value(value_node, depth + 1)
    return {**merged, **result} if merged else result


def _merge_sources(node: yaml.Node, depth: int) -> list[dict[Any, Any]]:
    values = _value(node, depth + 1)
    sources = values if isinstance(values, list) else [values]
    if not all(isinstance(source, dict) for source in sources):
        raise _ProblemError("yaml-key", "a merge key `<<` needs a mapping or a list of mappings", node)
    return sources


def _child(node: yaml.Node | None, key: PathKey) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
        if key < len(node.value):
            item: yaml.Node = node.value[key]
            return item
        return None
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == str(key):
                found: yaml.Node = value_node
                return found
    return None


def _place(node: yaml.Node) -> str:
    return f"{node.start_mark.line + 1}:{node.start_mark.column + 1}"
