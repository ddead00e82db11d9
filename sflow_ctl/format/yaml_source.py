"""Reads YAML files as plain data with places, and writes such data.

Places are looked up in the parsed nodes when something is wrong, so a good file pays nothing for them. This module and
`yaml_values` are the only ones that know the YAML library.
"""

import codecs
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from protocol.errors import Finding
from sflow_ctl.format.written import WrittenFloat, WrittenInt
from sflow_ctl.format.yaml_values import (
    STR_TAG,
    InvalidDataError,
    Problem,
    child,
    place_of,
    plain_data,
    plain_scalar,
    yaml,
)

PathKey = str | int
STANDARD_INPUT = Path("<stdin>")
"""What messages call the file `-`."""
MAX_FILE_BYTES = 32 * 2**20
"""A file of 10,000 tasks has a tenth of this, and takes seconds; of what has more, a checkpoint or a device, no end may come."""

LARGE_CHARACTERS = 2**18
"""From this size on a file is rather parsed once more for a message than kept in parts: 100,000 tasks have 250 MB of them."""


class _PlainResolver(yaml.resolver.Resolver):
    """Leaves untagged scalars alone: `yaml_values` converts them, faster and without traps."""

    def resolve(self, kind: Any, _value: Any, implicit: Any) -> Any:
        """Return the plain tag of a kind; "" marks an unquoted scalar."""
        if kind is yaml.ScalarNode:
            return "" if implicit[0] else STR_TAG
        return "map" if kind is yaml.MappingNode else "seq"


_PARSERS: tuple[type, ...] = (
    (yaml.CSafeLoader.__mro__[1],)
    if yaml.__with_libyaml__
    else (yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer)
)


class _Loader(*_PARSERS, _PlainResolver):  # type: ignore[misc]
    """libyaml's parser where PyYAML has it, which is ten times as fast as PyYAML's own."""

    def __init__(self, text: str) -> None:
        _PARSERS[0].__init__(self, text)  # type: ignore[misc]
        for base in (*_PARSERS[1:], _PlainResolver):
            base.__init__(self)  # type: ignore[misc]


class Source(Struct):
    """One file: its data, and the place of each part of it."""

    path: Path
    text: str
    _data: Any
    _root: yaml.Node | None
    _is_free: bool = False

    @property
    def data(self) -> Any:
        """The file as plain data."""
        return plain_data(self.root)[0] if self._is_free else self._data

    @property
    def root(self) -> yaml.Node:
        """The file as parsed nodes."""
        if self._root is None:
            self._root = _Loader(self.text).get_single_node()
        return self._root

    def free(self) -> None:
        """Free what was made of the text of a large file; it is made again if a message needs it, or its data."""
        if len(self.text) > LARGE_CHARACTERS:
            self._data, self._root, self._is_free = None, None, True

    def where(self, path: Sequence[PathKey]) -> str | None:
        """Return `file:line:column` of the value at `path`.

        A missing key, and one that came from a merge key, is placed at its parent. A number is also an entry of a mapping from
        names, which is short for a list.
        """
        node: yaml.Node | None = self.root
        for key in path:
            found = child(node, key)
            if isinstance(node, yaml.MappingNode) and isinstance(key, int) and found is None:
                found = node.value[key][1] if key < len(node.value) else None
            if found is None:
                break
            node = found
        return None if node is None else f"{self.path}:{place_of(node)}"

    def has(self, path: Sequence[PathKey]) -> bool:
        """Return True if this file itself has a value at `path`."""
        return self.node(path) is not None

    def node(self, path: Sequence[PathKey]) -> yaml.Node | None:
        """Return the parsed node at `path`."""
        node: yaml.Node | None = self.root
        for key in path:
            node = child(node, key)
        return node

    def is_mapping(self, path: Sequence[PathKey]) -> bool:
        """Return True if this file itself has a mapping at `path`."""
        return isinstance(self.node(path), yaml.MappingNode)

    def key_where(self, path: Sequence[PathKey]) -> str | None:
        """Return `file:line:column` of the last key of `path` itself."""
        node: yaml.Node | None = self.root
        for key in path[:-1]:
            node = child(node, key)
        if isinstance(node, yaml.MappingNode):
            for key_node, _ in node.value:
                if key_node.value == str(path[-1]):
                    return f"{self.path}:{place_of(key_node)}"
        return self.where(path)


def read_source(path: Path, kind: str = "workflow file") -> tuple[Source | None, list[Finding]]:
    """Return the file's data, if it is readable at all, and its problems as YAML.

    `kind` is the name of the file's kind in messages.
    """
    text = _read_text(path, kind)
    path = STANDARD_INPUT if str(path) == "-" else path
    if isinstance(text, Finding):
        return None, [text]
    try:
        root = _Loader(text).get_single_node()
        if root is None:
            hint = "sflow-ctl init writes one to begin with" if kind == "workflow file" else None
            return None, [Finding("file-empty", f"the {kind} {path} is empty", str(path), hint)]
        data, problems = plain_data(root)
    except yaml.MarkedYAMLError as error:
        return None, [_syntax_finding(path, error, text)]
    except yaml.YAMLError as error:
        return None, [_control_finding(path, error, text)]
    except RecursionError:
        return None, [Finding("yaml-syntax", "not valid YAML: nested too deeply", str(path))]
    except InvalidDataError as error:
        return None, [_finding(path, error.problem)]
    return Source(path, text, data, root), [_finding(path, problem) for problem in problems]


def value_of(text: str) -> Any:
    """Return the value of a text as a file would have it. Raises: ValueError."""
    try:
        root = _Loader(text).get_single_node()
        data, problems = (None, []) if root is None else plain_data(root)
    except InvalidDataError as error:
        raise ValueError(error.problem.what) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error).splitlines()[0]) from error
    if problems:
        raise ValueError(problems[0].what)
    return data


def dump(data: Any) -> str:
    """Return `data` as block-style YAML, in its own order, long texts as literal blocks."""
    base = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper

    class Dumper(base):  # type: ignore[misc, valid-type]
        def ignore_aliases(self, _data: Any) -> bool:
            """Write equal parts out: a composed file is for reading."""
            return True

    def text(dumper: Any, value: str) -> yaml.Node:
        style = "|" if "\n" in value else None
        # Text that YAML 1.1 elsewhere would read as something else (base 60, dates) is quoted.
        if style is None and (plain_scalar(value) != value or re.match(r"[-+]?\d[\d:_-]*$", value)):
            style = '"'
        node: yaml.Node = dumper.represent_scalar(STR_TAG, value, style=style)
        return node

    def number(dumper: Any, value: WrittenInt | WrittenFloat) -> yaml.Node:
        if plain_scalar(value.text) != value:  # YAML would read this spelling as something else
            return text(dumper, value.text)
        tag = dumper.resolve(
            yaml.ScalarNode, value.text, (True, False)
        )  # so that it is written without a tag
        node: yaml.Node = dumper.represent_scalar(tag, value.text)
        return node

    Dumper.add_representer(str, text)
    Dumper.add_representer(WrittenInt, number)
    Dumper.add_representer(WrittenFloat, number)
    dumped: str = yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return dumped


@cache
def _standard_input() -> bytes:
    """Return all of standard input; it can be read only once, and a command may read its files twice."""
    return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)


def _file_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _read_text(path: Path, kind: str) -> str | Finding:
    shown = STANDARD_INPUT if str(path) == "-" else path
    try:
        content = _standard_input() if str(path) == "-" else _file_bytes(path)
        if len(content) > MAX_FILE_BYTES:
            what = f"the {kind} {shown} is larger than {MAX_FILE_BYTES // 2**20} MiB: it seems to hold data"
            return Finding(
                "file-too-large", what, str(shown), "name another file, or have tasks read the data"
            )
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        is_default = str(path) == "sflow.yaml"
        hint = (
            "name a workflow file, run this in a directory with a sflow.yaml, or write one: sflow-ctl init"
            if is_default
            else _like(path)
        )
        return Finding("file-not-found", f"the {kind} {path} does not exist", str(path), hint)
    except IsADirectoryError:
        inside = path / "sflow.yaml"
        hint = f"did you mean {inside}?" if inside.is_file() else "name a file in it"
        return Finding("file-not-found", f"{path} is a directory, not a {kind}", str(path), hint)
    except UnicodeDecodeError as error:
        line, column, why = not_utf_8(error)
        where = f"{shown}:{line}:{column}"
        return Finding("file-not-readable", f"the {kind} {shown} {why}", where, "save it as UTF-8")
    except OSError as error:
        return Finding("file-not-readable", f"the {kind} {path} cannot be read: {error}", str(path))


def _like(path: Path) -> str:
    """Return a hint about a file that does not exist: one with a similar name beside it, if there is one."""
    import difflib  # only when something is wrong

    try:
        names = {one.stem: one for one in path.parent.iterdir() if one.suffix in (".yaml", ".yml")}
    except OSError:
        names = {}
    wanted = path.stem if path.suffix in (".yaml", ".yml") else path.name
    found = difflib.get_close_matches(wanted, sorted(names), n=1)
    return f"did you mean {names[found[0]]}?" if found else "correct the path"


def not_utf_8(error: UnicodeDecodeError) -> tuple[int, int, str]:
    """Return where a text is not UTF-8, line and column from 1, and what it is."""
    before = error.object[: error.start]
    column = len(before.rpartition(b"\n")[2].decode(errors="replace")) + 1
    is_utf_16 = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    why = "is UTF-16" if is_utf_16 else f"is not UTF-8: byte 0x{error.object[error.start]:02x}"
    return before.count(b"\n") + 1, column, why


def _syntax_finding(path: Path, error: yaml.MarkedYAMLError, text: str) -> Finding:
    """Explain a syntax error at the place where it begins: for an open quote that is the quote, not the file's end."""
    from sflow_ctl.format.yaml_problems import begins_earlier, explain_syntax  # only for wrong files

    problem, context = error.problem_mark, error.context_mark
    is_open_quote = context is not None and "quoted scalar" in str(error.context)
    began_earlier = context is not None and begins_earlier(str(error.problem))
    mark = context if is_open_quote or began_earlier or problem is None else problem
    if mark is None:
        return Finding("yaml-syntax", f"not valid YAML: {error.problem or error.context}", str(path))
    where = f"{path}:{mark.line + 1}:{mark.column + 1}"
    line = (*text.splitlines(), "")[min(mark.line, len(text.splitlines()))]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "replace the tab with spaces"
        return Finding("yaml-syntax", "not valid YAML: a tab in the indentation", where, hint)
    if is_open_quote:
        return Finding("yaml-syntax", "not valid YAML: a quote is not closed", where, "close the quote")
    problem_text = error.problem or error.context
    why, hint = explain_syntax(str(problem_text), line)
    return Finding("yaml-syntax", f"not valid YAML: {why or problem_text}", where, hint)


def _control_finding(path: Path, error: yaml.YAMLError, text: str) -> Finding:
    """Explain a character that no YAML file may have."""
    position = getattr(error, "position", None)
    if not isinstance(position, int) or position >= len(text):
        return Finding("yaml-syntax", f"not valid YAML: {str(error).partition(chr(10))[0]}", str(path))
    before = text[:position]
    where = f"{path}:{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}"
    what = f"not valid YAML: the control character 0x{ord(text[position]):02x}"
    return Finding("yaml-syntax", what, where, "remove it")


def _finding(path: Path, problem: Problem) -> Finding:
    return Finding(problem.code, problem.what, f"{path}:{place_of(problem.node)}", problem.hint)
