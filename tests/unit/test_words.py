"""Keeps the words of `docs/glossary.md`, and plain English, in names, docstrings, comments, messages and documents."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("protocol", "sflow_agent", "sflow_ctl")
MIN_MESSAGE_BLANKS = 2
"""A constant with so many blanks is a sentence, not a key."""

EXCEPTIONS = {
    "worker": (
        r"\bWorkers?\b|_workers?\b|\bworkers\b|\.worker\b|`worker`|web worker",
        "threads of an agent; workers of a user's server",
    ),
    "daemon": (
        r"(?i)slurm|engine|container|docker|step|nginx|_daemon_|daemon=|daemons?:",
        "programs of others, and threads",
    ),
    "master": (
        r"(?i)master_(addr|port)|MASTER\b|port called `master`|has_master",
        "MASTER_ADDR and MASTER_PORT of torch",
    ),
    "abort": (r"click\.Abort|Aborted\"|\|Aborted", "click's exception, the text of SIGABRT"),
    "template": (r".", "Jinja's word for a whole text with expressions"),
    "pool": (r"[`{ ]pool[:.`]|pool: \{", "a backend's name in examples"),
}
"""Words that have another meaning in some places: a pattern of these places, and the meaning."""

PLAIN = {
    r"\b(nobody|somebody|whoever|whomever|everybody)\b": "name the process, the user or the task",
    r"^See `[^`]+`\.?$": "say what the function does",
    r"(?<!there )(?<!There )\b(is|are) no (?!longer|more|such|need|other|one\b)[a-z]": "write `is not a`",
    r"\b(goes on|gone on|going on)\b": "continues",
    r"\b(is|was|are|were) told\b": "gets, receives, is ordered",
}


def not_used() -> dict[str, str]:
    """Return words of the last column of the glossary, with the word to use instead."""
    found = {}
    for line in (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 3 and cells[0] != "Word":
            for word in filter(None, (each.strip() for each in cells[2].split(","))):
                found[word] = cells[0]
    return found


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every docstring, comment and message of a module."""
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("# noqa", "# type:", "# fmt:")):
            yield token.start[0], token.string[1:].split("# noqa")[0].strip()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = " ".join(node.value.split())
            if text.count(" ") >= MIN_MESSAGE_BLANKS:
                yield node.lineno, text


def names_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of everything that a module defines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case _:
                pass


def prose_of(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page outside of code blocks, without inline code."""
    is_code = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip().startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield number, re.sub(r"`[^`]*`", "`", line)


def modules() -> list[Path]:
    """Return the modules of the three packages."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def pages() -> list[Path]:
    """Return the documents, without the glossary, which names the words, and the record of the past."""
    found = [
        *sorted((ROOT / "docs").rglob("*.md")),
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        ROOT / "CONTRIBUTING.md",
    ]
    return [page for page in found if page.name != "glossary.md"]


class Text(NamedTuple):
    """One text, where it is, and the source line on which it begins."""

    place: str
    text: str
    line: str
    is_name: bool


@cache
def everything() -> tuple[Text, ...]:
    """Return all names and texts of the packages, and the prose of the documents."""
    found = []
    for path in modules():
        lines = path.read_text(encoding="utf-8").splitlines()
        place = path.relative_to(ROOT)
        found += [Text(f"{place}:{at}", text, lines[at - 1], False) for at, text in texts_of(path)]
        found += [
            Text(f"{place}:{at}", re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name), lines[at - 1], True)
            for at, name in names_of(path)
        ]
    for page in pages():
        found += [Text(f"{page.relative_to(ROOT)}:{at}", text, "", False) for at, text in prose_of(page)]
    return tuple(found)


def places(pattern: re.Pattern[str], allowed: str | None, has_names: bool) -> list[str]:
    """Return where a pattern is found outside of the allowed places."""
    return [
        f"{one.place}: {one.text[:100]}"
        for one in everything()
        if (has_names or not one.is_name)
        and pattern.search(one.text)
        and not (allowed and re.search(allowed, f"{one.text} {one.line}"))
    ]


@pytest.mark.parametrize("word", sorted(not_used()))
def test_a_word_that_is_not_used_is_nowhere(word: str) -> None:
    pattern = re.compile(rf"\b{re.escape(word)}(e?s|ed|ing)?\b", re.IGNORECASE)
    allowed, _ = EXCEPTIONS.get(word, (None, ""))
    found = places(pattern, allowed, has_names=True)
    assert not found, f"write `{not_used()[word]}`:\n" + "\n".join(found)


@pytest.mark.parametrize("shape", PLAIN)
def test_texts_are_plain(shape: str) -> None:
    found = places(re.compile(shape), None, has_names=False)
    assert not found, f"{PLAIN[shape]}:\n" + "\n".join(found)


def test_every_exception_is_still_a_word_of_the_glossary() -> None:
    assert EXCEPTIONS.keys() <= not_used().keys()


def test_names_of_tests_are_plain() -> None:
    riddles = re.compile(r"_(nobody|nobodys|somebody|somebodys|whoever|everybody|told|tells)(_|$)")
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for _, name in names_of(path)
        if name.startswith("test_") and riddles.search(name)
    ]
    assert not found, "\n".join(found)
