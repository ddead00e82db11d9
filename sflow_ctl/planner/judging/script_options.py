"""Warns of options that the Python program of a task's script does not take. Called by the pipeline.

The programs are read, never run: what their text does not show is not judged.
"""

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from sflow_ctl.format.checking import nearest
from sflow_ctl.format.python_options import DeclaredOptions, declared_options
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.planner.findings import Findings

_OPTION = re.compile(r"(?:^|\s)(--[A-Za-z][\w-]*)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_ARRAY = re.compile(r"\b(\w+)\+?=\(([^()]*)\)")
_ALL_OF = re.compile(r"\$\{(\w+)\[@\]\}")
_ENDS = frozenset(";&|()\n<>")
"""Characters of the words that end a command, or what a program is given of it."""
_BEFORE = frozenset(
    ["exec", "time", "nohup", "command", "if", "then", "elif", "else", "do", "while", "until", "!", "{"]
)
"""Words that may be before a program's name."""
_PYTHON = re.compile(r"(?:.*/)?python[\d.]*")
_WITH_VALUE = ("-W", "-X")
"""Options of Python with a word of their own after them."""


class ProgramCall(Struct, frozen=True):
    """A Python program in a script, and the long options that it is given."""

    file: str
    options: tuple[str, ...]


def warn_of_unknown_options(
    tasks: Sequence[PlannedTask], workspace: str, read: Callable[[str], str], findings: Findings
) -> None:
    """Warn once of each option that a task's program does not take. `read` returns the text of a file."""
    known: dict[str, DeclaredOptions] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    for task in kinds_of(tasks):
        if ".py" not in task.script or task.operator_kind == "python":
            continue
        used = frozenset(_OPTION.findall(task.script))
        if not used or (task.base, used) in seen:
            continue  # cells of a sweep mostly differ in values alone
        seen.add((task.base, used))
        variables = {**task.env, "SFLOW_WORKSPACE_DIR": workspace}
        for call in program_calls(task.script, task.cwd or workspace, variables):
            if call.file not in known:
                known[call.file] = _declared(call.file, read)
            for option in call.options:
                if not known[call.file].takes(option):
                    _warn(task.base, call.file, option, known[call.file], findings)


def _declared(file: str, read: Callable[[str], str]) -> DeclaredOptions:
    try:
        return declared_options(read(file))
    except (OSError, UnicodeDecodeError):
        return DeclaredOptions()  # it may be there when the task starts


def _warn(task: str, file: str, option: str, declared: DeclaredOptions, findings: Findings) -> None:
    what = f'task "{task}": {posixpath.basename(file)} takes no option {option}'
    meant = nearest(option, sorted(declared.flags - {"--help"}))
    hint = f"did you mean {meant}?" if meant else f"it takes {', '.join(sorted(declared.flags - {'--help'}))}"
    findings.warn("unknown-args", what, findings.loaded.where("tasks", task, "script"), hint)


def program_calls(script: str, directory: str, variables: Mapping[str, str]) -> Iterator[ProgramCall]:
    """Yield the Python programs of a shell's script whose files are known, as absolute paths."""
    if "<<" in script:
        return  # lines of a here-document are not commands
    arrays: dict[str, list[str]] = {}
    for name, members in _ARRAY.findall(script):
        arrays.setdefault(name, []).extend(_OPTION.findall(f" {members}"))
    here: str | None = directory
    for words in _commands(_ARRAY.sub("", script)):
        if words[0] == "cd":
            here = _path(words[1], here, variables) if len(words) == 2 else None
            continue
        at = _program_at(words)
        path = None if at is None else _path(words[at], here, variables)
        if at is not None and path is not None:
            yield ProgramCall(posixpath.normpath(path), tuple(_options(words[at + 1 :], arrays)))


def _commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command; of one that is redirected, those before that."""
    lexer = shlex.shlex(script.replace("\\\n", " "), posix=True, punctuation_chars=";&|()<>\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    words: list[str] = []
    is_over = False
    try:
        for word in lexer:
            if word and _ENDS.issuperset(word):
                is_over = word[0] in "<>" or (word == "&" and is_over)
                if not is_over:
                    if words:
                        yield words
                    words = []
            elif not is_over:
                words.append(word)
    except ValueError:
        return  # an open quote
    if words:
        yield words


def _program_at(words: Sequence[str]) -> int | None:
    """Return which word is the file of a Python program that the command runs; None if there is none."""
    index = 0
    while index < len(words) and (words[index] in _BEFORE or re.fullmatch(r"\w+=.*", words[index])):
        index += 1
    if index == len(words):
        return None
    program = words[index]
    if program.endswith(".py"):
        return index
    index += 1
    if posixpath.basename(program) == "torchrun":
        return next(
            (number for number in range(index, len(words)) if words[number].endswith(".py")), None
        )  # its options before it
    if not _PYTHON.fullmatch(program):
        return None
    while index < len(words) and words[index].startswith("-"):
        if words[index].startswith(("-m", "-c")):
            return None
        index += 2 if words[index] in _WITH_VALUE else 1
    return index if index < len(words) and words[index].endswith(".py") else None


def _path(word: str, here: str | None, variables: Mapping[str, str]) -> str | None:
    """Return the absolute path that a word names; None where it cannot be known."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1] or match[2], match[0])

    path = _VARIABLE.sub(value, word)
    if any(mark in path for mark in "$`*?[{~"):
        return None
    if posixpath.isabs(path):
        return path
    return None if here is None else posixpath.join(here, path)


def _options(words: Sequence[str], arrays: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the long options among the words after a program."""
    for word in words:
        if word == "--":
            return
        if (of := _ALL_OF.fullmatch(word)) is not None:
            yield from arrays.get(of[1], ())
        elif (match := re.match(r"--[A-Za-z][\w-]*", word)) is not None and word[match.end() :][:1] in (
            "",
            "=",
        ):
            yield match[0]
