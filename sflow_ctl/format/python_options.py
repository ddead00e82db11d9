"""The options that a Python program declares with argparse, read from its text without running it.

Only what is written out is seen; `is_complete` says whether that is all of them.
"""

import ast
from collections.abc import Iterator
from functools import cache
from typing import Any

from msgspec import Struct

_PARSER = "ArgumentParser"
_MAKERS = (_PARSER, "add_argument_group", "add_mutually_exclusive_group", "add_subparsers", "add_parser")
"""Calls whose results take arguments."""
_OPEN_KEYWORDS = ("parents", "prefix_chars", "fromfile_prefix_chars")
"""Of a parser: with these it has options that are declared elsewhere, or are not options by their look."""
_LENIENT = ("parse_known_args", "parse_known_intermixed_args")


class DeclaredOption(Struct, frozen=True):
    """One argument with options."""

    flags: tuple[str, ...]
    """Long ones, with their dashes."""
    dest: str
    action: str
    """The action's name; empty for the default."""


class DeclaredOptions(Struct, frozen=True):
    """What a program declares."""

    options: tuple[DeclaredOption, ...] = ()
    is_complete: bool = False
    """It takes no other long options: the program refuses them."""
    may_shorten: bool = True
    """An option may be shortened, as long as it is clear which one is meant."""

    @property
    def flags(self) -> frozenset[str]:
        """Return all long options that it takes."""
        own = {flag for one in self.options for flag in one.flags}
        negated = {
            f"--no-{flag[2:]}"
            for one in self.options
            if one.action == "BooleanOptionalAction"
            for flag in one.flags
        }
        return frozenset(own | negated | {"--help"})

    def takes(self, flag: str) -> bool:
        """Return whether it takes a long option, as far as its text tells."""
        if not self.is_complete or flag in self.flags:
            return True
        return self.may_shorten and sum(one.startswith(flag) for one in self.flags) == 1


@cache
def declared_options(text: str) -> DeclaredOptions:
    """Return the options that a program declares; none for a text that is not Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return DeclaredOptions()
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    arguments = [one for one in calls if getattr(one.func, "attr", None) == "add_argument"]
    options = tuple(one for call in arguments for one in _option(call))
    return DeclaredOptions(options, _is_complete(tree, calls, arguments), not _forbids_shortening(calls))


def _option(call: ast.Call) -> Iterator[DeclaredOption]:
    given: list[Any] = [one.value for one in call.args if isinstance(one, ast.Constant)]
    flags = tuple(one for one in given if isinstance(one, str) and one.startswith("--"))
    if not flags:
        return
    named = {one.arg: one.value for one in call.keywords}
    dest: Any = getattr(named.get("dest"), "value", "")
    action = named.get("action")
    yield DeclaredOption(
        flags,
        dest if isinstance(dest, str) else "",
        str(action.value)
        if isinstance(action, ast.Constant)
        else getattr(action, "attr", getattr(action, "id", "")),
    )


def _is_complete(tree: ast.Module, calls: list[ast.Call], arguments: list[ast.Call]) -> bool:
    """Return whether nothing else can add options, or take those that are unknown."""
    parsers = [one for one in calls if _called(one) == _PARSER]
    if not parsers or any(word.arg in (*_OPEN_KEYWORDS, None) for one in parsers for word in one.keywords):
        return False
    if any(_called(one) in _LENIENT for one in calls):
        return False
    if not all(isinstance(value, ast.Constant) for one in arguments for value in one.args):
        return False
    if any(_takes_the_rest(one) for one in arguments) or _reads_words_itself(tree):
        return False
    return not _is_handed_out(tree, calls)


def _called(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def _takes_the_rest(call: ast.Call) -> bool:
    counts = [one.value for one in call.keywords if one.arg == "nargs"]
    return any(
        getattr(one, "attr", None) == "REMAINDER" or (isinstance(one, ast.Constant) and one.value == "...")
        for one in counts
    )


def _reads_words_itself(tree: ast.Module) -> bool:
    """Return whether the program looks at `sys.argv` in another way than as `sys.argv[0]` or `sys.argv[1:]`."""
    plain = {
        id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Subscript) and _is_plain_part(one)
    }
    return any(
        isinstance(one, ast.Attribute) and one.attr == "argv" and id(one) not in plain
        for one in ast.walk(tree)
    )


def _is_plain_part(part: ast.Subscript) -> bool:
    index = part.slice
    if isinstance(index, ast.Slice):
        lower = index.lower
        is_all = isinstance(lower, ast.Constant) and lower.value == 1
        return is_all and index.upper is None and index.step is None and isinstance(part.ctx, ast.Load)
    return isinstance(index, ast.Constant) and index.value == 0


def _is_handed_out(tree: ast.Module, calls: list[ast.Call]) -> bool:
    """Return whether code of another file gets a parser: it may add options."""
    own = {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}
    names = {
        target.id
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call) and _called(one.value) in _MAKERS
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    for call in calls:
        given = [*call.args, *(one.value for one in call.keywords)]
        gets_parser = any(isinstance(one, ast.Name) and one.id in names for one in given)
        if gets_parser and not (isinstance(call.func, ast.Name) and call.func.id in own):
            return True
    return False


def _forbids_shortening(calls: list[ast.Call]) -> bool:
    return any(
        word.arg == "allow_abbrev" and isinstance(word.value, ast.Constant) and word.value.value is False
        for one in calls
        if _called(one) == _PARSER
        for word in one.keywords
    )
