"""Turns parsed YAML nodes into plain data: YAML 1.1 as the format uses it, without its traps.

Base-60 numbers and dates stay text, `1e-4` is a number, duplicate keys and tags are problems. `yaml_source` reads the files,
with the library as it is imported here.
"""

import math
import re
from typing import Any

from msgspec import Struct

from protocol.text.lazy_pattern import lazy_pattern

_compile = re.compile
# PyYAML compiles its patterns when it is imported; the characters that YAML allows take 5 to 10 ms. Its parser in Python
# and its dumper use them, by their methods; libyaml's parser, which reads our files, does not.
re.compile = lazy_pattern  # type: ignore[assignment]
try:
    import yaml
finally:
    re.compile = _compile

__all__ = [
    "STR_TAG",
    "InvalidDataError",
    "Problem",
    "child",
    "members_of",
    "place_of",
    "plain_data",
    "plain_scalar",
    "unquoted",
    "yaml",
]

MAX_DIGITS = 250
"""Digits of an integer, in any notation: a longer one cannot be read again from JSON, and was never meant as a number."""
MAX_DEPTH = 200
MAX_ALIASED = 100_000
"""Values that aliases may repeat: more than any file needs, and far below what takes a noticeable time."""
_BOOL = {
    word: value
    for value, words in (
        (True, "yes Yes YES true True TRUE on On ON"),
        (False, "no No NO false False FALSE off Off OFF"),
    )
    for word in words.split()
}
_INT = lazy_pattern(r"[-+]?(?:0b[0-1_]+|0[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_FLOAT = lazy_pattern(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
)
_SPECIAL_FLOAT = lazy_pattern(r"\.(inf|nan)", re.IGNORECASE)
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_STARTS_PLAIN = frozenset("0123456789+-.~nNyYtToOfF")
STR_TAG = "tag:yaml.org,2002:str"
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null"))


class Problem(Struct, frozen=True):
    """Part of a file that is not valid data, and the node where it is."""

    code: str
    what: str
    node: yaml.Node
    hint: str | None = None


class InvalidDataError(Exception):
    """A problem after which the rest of the file cannot be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


def plain_data(root: yaml.Node) -> tuple[Any, list[Problem]]:
    """Return the data of a file and all its problems. Raises: InvalidDataError."""
    reader = _Reader()
    return reader.value(root), reader.problems


def place_of(node: yaml.Node) -> str:
    """Return `line:column` of a node, both from 1."""
    return f"{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def child(node: yaml.Node | None, key: str | int) -> yaml.Node | None:
    """Return the node of a member; None where there is none."""
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
        return node.value[key] if key < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == str(key):
                found: yaml.Node = value_node
                return found
    return None


def members_of(node: yaml.Node | None) -> dict[str | int, yaml.Node]:
    """Return the nodes of a sequence's or mapping's members, by index or key; none of any other node."""
    if isinstance(node, yaml.SequenceNode):
        return dict(enumerate(node.value))
    if isinstance(node, yaml.MappingNode):
        return {key.value: value for key, value in reversed(node.value) if isinstance(key, yaml.ScalarNode)}
    return {}


def unquoted(node: yaml.Node | None) -> str | None:
    """Return the source of an unquoted scalar; None for anything else."""
    return node.value if isinstance(node, yaml.ScalarNode) and node.tag == "" else None


def plain_scalar(text: str) -> Any:
    """Return the value of an unquoted scalar."""
    if not text:
        return None
    if text[0] not in _STARTS_PLAIN:
        return text
    if text in _BOOL:
        return _BOOL[text]
    if text in _NULL:
        return None
    if text[0].isalpha():
        return text  # before the patterns, which take longer to compile than a small file to read
    if _INT.match(text):
        return _integer(text)
    if _FLOAT.match(text):
        value = float(_SPECIAL_FLOAT.sub(r"\1", text.replace("_", "")))
        # A commit such as 83e2010 is too large for a float: it was never meant as one.
        return text if math.isinf(value) and text[-1].isdigit() else value
    return text


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    sign = -1 if digits[0] == "-" else 1
    digits = digits.lstrip("+-")
    if not digits or len(digits) > MAX_DIGITS:
        return text
    if digits.startswith("0b"):
        return sign * int(digits[2:], 2)
    if digits.startswith("0x"):
        return sign * int(digits[2:], 16)
    if digits[0] == "0" and len(digits) > 1:
        return sign * int(digits, 8)
    return sign * int(digits)


class _Reader:
    """Converts the nodes of one file, collecting problems that hide nothing else."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._seen: set[int] = set()
        self._texts: dict[str, str] = {}
        """Each text once: the keys of 100,000 tasks are the same."""
        self._aliased = 0

    def value(self, node: yaml.Node, depth: int = 0) -> Any:
        """Return the data of a node. Raises: InvalidDataError."""
        if depth > MAX_DEPTH:
            what = "not valid YAML: nested too deeply, or an alias contains itself"
            raise InvalidDataError(Problem("yaml-syntax", what, node))
        self._count(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, ("seq", "tag:yaml.org,2002:seq"))
            return [self.value(item, depth + 1) for item in node.value]
        assert isinstance(node, yaml.MappingNode)
        self._check_tag(node, ("map", "tag:yaml.org,2002:map"))
        return self._mapping(node, depth)

    def _count(self, node: yaml.Node) -> None:
        """Count values that come from an alias, which can multiply with each level. Raises: InvalidDataError."""
        if id(node) not in self._seen:
            self._seen.add(id(node))
            return
        self._aliased += 1
        if self._aliased > MAX_ALIASED:
            what = f"aliases repeat more than {MAX_ALIASED} values"
            raise InvalidDataError(Problem("yaml-aliases", what, node, "write fewer aliases of aliases"))

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = self._texts.get(node.value)
        if text is None:
            # A copy: the original lies among the nodes, and would keep their memory from being freed.
            text = node.value[:1] + node.value[1:]
            self._texts[text] = text
        if node.tag == "" or node.tag in _PLAIN_TAGS:
            return plain_scalar(text)
        if node.tag not in (STR_TAG, "!"):
            self._check_tag(node, ())
        return text

    def _check_tag(self, node: yaml.Node, allowed: tuple[str, ...]) -> None:
        if node.tag not in allowed:
            what = f"the tag {node.tag} is not allowed"
            self.problems.append(Problem("yaml-tag", what, node, "write plain values"))

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        first: dict[Any, yaml.Node] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem("yaml-key", "a mapping's key must be plain text", key_node))
                continue
            if key_node.value == "<<" and key_node.tag == "":
                for source in self._merge_sources(value_node, depth):
                    merged = {**source, **merged}
                continue
            key = self.value(key_node)
            if key in first:
                self._add_duplicate(key, first[key], key_node)
            else:
                first[key] = key_node
            result[key] = self.value(value_node, depth + 1)
        return {**merged, **result} if merged else result

    def _add_duplicate(self, key: Any, first: yaml.Node, again: yaml.Node) -> None:
        what = f'"{key}" is given twice in one mapping (at {place_of(first)} and {place_of(again)})'
        hint = "remove one of them: only the last would count"
        self.problems.append(Problem("duplicate-key", what, again, hint))

    def _merge_sources(self, node: yaml.Node, depth: int) -> list[dict[Any, Any]]:
        values = self.value(node, depth + 1)
        sources = values if isinstance(values, list) else [values]
        if not all(isinstance(source, dict) for source in sources):
            what = "a merge key `<<` needs a mapping or a list of mappings"
            self.problems.append(Problem("yaml-key", what, node))
        return [source for source in sources if isinstance(source, dict)]
