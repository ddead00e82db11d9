"""Checks data against the schema and reports every problem at once.

msgspec checks fast and stops at the first problem. So each problem is noted, the wrong value is removed, and the rest is checked
again: a good file is checked once, a bad one as often as it has problems.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from protocol.errors import Finding
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.field_lookup import PathKey, dotted, fields_at, words_at
from sflow_ctl.format.other_words import elsewhere, example_of, meant_by, words_for

T = TypeVar("T")
Path = tuple[PathKey, ...]
Where = Callable[[Sequence[PathKey]], str | None]

_UNKNOWN = lazy_pattern(r"Object contains unknown field `(?P<field>[^`]*)`(?: - at `(?P<path>.*)`)?$")
_MISSING = lazy_pattern(r"Object missing required field `(?P<field>[^`]*)`(?: - at `(?P<path>.*)`)?$")
_KEY = lazy_pattern(r"Expected `str` - at `key` in `(?P<path>.*)`$")
_AT = lazy_pattern(r"(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_STEP = lazy_pattern(r"\.([^.\[\]]+)|\[(\d+)\]|\[(\.\.\.)\]")
MAX_FINDINGS = 200
MOST_OWNERS = 3
"""Fields that a misplaced key may belong to, if they are named."""
_HOST_WORDS = {"cpu": "cpus", "cores": "cpus", "mem": "memory", "ram": "memory"}
"""What people call fields of `resources`: not misspellings of `gpus`."""
_COUNTED = frozenset({"replicas", "retries", "nodes", "gpus"})
"""Fields for which a number is short for a mapping with `count`."""
_IN_PLACE = {"script": ["true"]}
"""What stands for a required field that was wrong, while the rest is checked."""
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


class _Scope(Struct, frozen=True):
    """What a message about a value needs: the whole type, the path above the data, and where paths are."""

    kind: type
    base: Path
    where: Where

    def place(self, path: Path) -> str:
        """Return `file:line:column  field` of a path in the data."""
        full = (*self.base, *path)
        return "  ".join(part for part in (self.where(full), dotted(full)) if part)


class _Problem(Struct, frozen=True):
    """A finding, the path of the value to remove, and the field that a misspelled key was probably meant to be."""

    path: Path
    finding: Finding
    meant: Path | None = None


class Remainder(Struct, frozen=True):
    """What is left of wrong data when everything wrong is removed, and the paths of what was removed."""

    value: Any
    removed: tuple[Path, ...]


def check(
    kind: type[T],
    data: Any,
    base: Path,
    where: Where,
    findings: list[Finding],
    remainders: list[Remainder] | None = None,
) -> T | None:
    """Return `data` as a `kind`, or None with every problem added to `findings`, and what is left to `remainders`."""
    try:
        return msgspec.convert(data, kind, strict=True)
    except msgspec.ValidationError as error:
        from copy import deepcopy  # for mistakes only

        rest = deepcopy(data)
        problems = _problems(error, rest, _Scope(kind, base, where))
    if remainders is not None:
        with suppress(msgspec.ValidationError):  # a required value was wrong
            removed = tuple((*base, *(problem.meant or problem.path)) for problem in problems)
            if isinstance(rest, dict):  # a task without its script has other fields that may be wrong
                rest = _IN_PLACE | rest
            remainders.append(Remainder(msgspec.convert(rest, kind, strict=True), removed))
    explained = {problem.meant for problem in problems}
    for problem in problems[: MAX_FINDINGS - len(findings)]:
        follows = problem.finding.code == "missing-key" and problem.path in explained
        if not follows and problem.finding not in findings:
            findings.append(problem.finding)
    return None


def nearest(word: str, candidates: Sequence[str]) -> str | None:
    """Return the candidate a person probably meant, or None."""
    import difflib  # only when something is wrong

    found = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    return found[0] if found else None


def meant_key(key: str, allowed: Sequence[str]) -> str | None:
    """Return the allowed key that another tool's word or a misspelling stands for, or None."""
    guess = meant_by(key, allowed) or nearest(key, allowed)
    if guess is not None:
        return guess
    other = nearest(key, words_for(allowed))
    return _with_words_of(key, allowed) if other is None else meant_by(other, allowed)


def _with_words_of(key: str, allowed: Sequence[str]) -> str | None:
    """Return the one allowed key that has some of the words of `key`, and no others, as grace for grace_period."""
    words = set(key.lower().replace("-", "_").split("_"))
    found = [name for name in allowed if words.issuperset(name.split("_"))]
    return found[0] if len(found) == 1 else None


def guess_hint(word: str, candidates: Sequence[str], otherwise: str | None) -> str | None:
    """Return `did you mean "..."?` for a misspelled word, or `otherwise` if nothing is similar."""
    guess = nearest(word, candidates)
    return f'did you mean "{guess}"?' if guess else otherwise


def _problems(error: msgspec.ValidationError, rest: Any, scope: _Scope) -> list[_Problem]:
    """Collect problems by removing the wrong values from `rest` one by one."""
    problems: list[_Problem] = []
    removed: set[Path] = set()
    while len(problems) < MAX_FINDINGS:
        problem = _problem(error, rest, scope)
        path = problem.path
        if path not in removed:
            problems.append(problem)
        else:  # a required value that was removed, and is noted: its parent must go as well
            while path in removed:
                path = path[:-1]
        if not _remove(rest, path):
            break
        removed.add(path)
        try:
            msgspec.convert(rest, scope.kind, strict=True)
        except msgspec.ValidationError as next_error:
            error = next_error
        else:
            break
    return problems


def _problem(error: msgspec.ValidationError, data: Any, scope: _Scope) -> _Problem:
    message = str(error)
    if match := _UNKNOWN.match(message):
        return _unknown_key(_parse_path(match["path"], data), match["field"], scope)
    if match := _MISSING.match(message):
        path = (*_parse_path(match["path"], data), match["field"])
        what = f'"{match["field"]}" is missing'
        return _Problem(path, Finding("missing-key", what, scope.place(path), f'add "{match["field"]}:"'))
    if match := _KEY.match(message):
        return _wrong_key(_parse_path(match["path"], data), data, scope)
    match = _AT.match(message)
    assert match is not None
    path = _parse_path(match["path"], data)
    if match["what"].startswith("Invalid enum value"):
        path, words = _unknown_word(path, data, scope)
        return _Problem(path, _wrong_word(_get(data, path), words, scope.place(path)))
    hint, what = _type_hint(match["what"], path), _explain(match["what"])
    if path and path[-1] in _COUNTED:
        what = what.replace("expected a mapping or nothing", "expected a number or a mapping")
    return _Problem(path, Finding("wrong-type", what, scope.place(path), hint))


def _unknown_key(parent: Path, key: str, scope: _Scope) -> _Problem:
    path = (*parent, key)
    allowed = fields_at(scope.kind, parent)
    guess = _HOST_WORDS.get(key) if key in _HOST_WORDS and "gpus" in allowed else meant_key(key, allowed)
    hint = f'did you mean "{guess}"?' if guess else _deeper_hint(parent, key, scope)
    if key in ("cpus", "memory", *_HOST_WORDS) and "resources" in allowed:
        guess, hint = None, f"write resources: {{{_HOST_WORDS.get(key, key)}: ...}}"
    if there := elsewhere(key, allowed):
        guess, hint = None, there
    finding = Finding("unknown-key", f'unknown key "{key}"', scope.place(path), hint)
    return _Problem(path, finding, None if guess is None else (*parent, guess))


def _deeper_hint(parent: Path, key: str, scope: _Scope) -> str:
    """Return where a key belongs that a field beside it has, or else what is allowed."""
    allowed = fields_at(scope.kind, parent)
    having = [name for name in allowed if key in fields_at(scope.kind, (*parent, name))]
    if not having or len(having) > MOST_OWNERS:
        return f"allowed here: {', '.join(allowed)}"
    where = " or ".join(f"{name}: {{{key}: ...}}" for name in having)
    return f"it belongs below {' or '.join(having)}: write {where}"


def _wrong_key(path: Path, data: Any, scope: _Scope) -> _Problem:
    """Report a key that YAML read as a boolean or number."""
    here = _get(data, path)
    key = next((one for one in here if not isinstance(one, str)), None) if isinstance(here, dict) else None
    what = f"the key {str(key).lower()} is not text: YAML reads on, off, yes, no and numbers as values"
    parent = path if key is not None else path[:-1]
    allowed = ", ".join(fields_at(scope.kind, parent))
    hint = f"allowed here: {allowed}" if allowed else "put it in quotes"
    found = (*path, key) if key is not None else path
    return _Problem(found, Finding("wrong-type", what, scope.place(parent), hint))


def _unknown_word(path: Path, data: Any, scope: _Scope) -> tuple[Path, Sequence[str]]:
    """Return where a word is that is none of those that are known there, and these; `[...]` may have been another entry."""
    words = words_at(scope.kind, path)
    if isinstance(_get(data, path), str):
        return path, words
    parent = path if isinstance(_get(data, path), dict) else path[:-1]
    here = _get(data, parent)
    words = words or words_at(scope.kind, parent)
    entries = here.items() if isinstance(here, dict) else ()
    bad = next((key for key, value in entries if isinstance(value, str) and value not in words), None)
    return (path if bad is None else (*parent, bad)), words


def _wrong_word(value: Any, words: Sequence[str], place: str) -> Finding:
    listed = ", ".join(words)
    hint = guess_hint(str(value), words, f"one of {listed}")
    return Finding("wrong-value", f'"{value}" is not one of {listed}', place, hint)


def _explain(what: str) -> str:
    match = re.match(r"Expected `(.*)`, got `(.*)`$", what)
    if match is None:
        return what[0].lower() + what[1:]
    wanted = " or ".join(_WORDS.get(word.strip(), word.strip()) for word in match[1].split("|"))
    return f"expected {wanted}, found {_WORDS.get(match[2], match[2])}"


def _type_hint(what: str, path: Path) -> str | None:
    if "got `object`" in what and "str" in what and "bool" not in what:
        return 'quote the line: an unquoted `: ` makes it a mapping, as in - echo "a: b"'
    if path and path[-1] == "version":
        return 'quote it: version: "0.1"'
    if path and path[-1] in _COUNTED and what.startswith("Expected `object"):
        return f"a number, or a mapping: {path[-1]}: {{count: 2}}"
    if what.startswith("Expected `object") and path and (example := example_of(path[-1])):
        return f"e.g. {example}"
    if "Expected `array`" in what:
        return "write a list: [a, b], or one item a line beginning with `- `"
    if what.startswith("Expected `str"):
        return "put it in quotes"
    return None


def _parse_path(text: str | None, data: Any) -> Path:
    """Return `$.a.b[0]` as keys. `[...]` is any key of a mapping: the first whose value is not text is meant."""
    keys: list[PathKey] = []
    steps = _STEP.findall((text or "$")[1:])
    for number, (name, index, any_key) in enumerate(steps):
        if not any_key:
            keys.append(int(index) if index else name)
            continue
        here = _get(data, keys)
        after = steps[number + 1][0] if number + 1 < len(steps) else ""
        entries = here.items() if isinstance(here, dict) else ()
        bad = next((key for key, value in entries if _may_be_bad(value, after)), None)
        if bad is None:
            break
        keys.append(bad)
    return tuple(keys)


def _may_be_bad(value: Any, inside: str) -> bool:
    """Return True if an entry of a mapping, or its member called `inside`, is not text."""
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


def _remove(data: Any, path: Path) -> bool:
    """Remove the value at `path` so that the rest can be checked; return False if that is impossible."""
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
