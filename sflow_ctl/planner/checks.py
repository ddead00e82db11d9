"""Checks of a whole document that need no values.

Names that an expression cannot spell, and variables that bash or a task's GPUs replace.

Called by the pipeline before its first phase.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.planner.findings import Findings
from sflow_ctl.planner.source import PlanInput

_EXPRESSION = lazy_pattern(r"\$\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_SHELL_NAME = lazy_pattern(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TRUNCATES = lazy_pattern(
    r"(?:(?<!>)>\|?|\btee\b(?!\s+-\w*a))\s*[\"']?/(?:dev/(?:stdout|stderr|fd/[12])|proc/(?:self|\$\$)/fd/[12])\b"
)
"""Opens the file behind stdout or stderr anew, without appending."""
_FOR_A_SHELL = lazy_pattern(
    r"\$\{?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}?|\$\([^)]+\)|`[^`]+`|^~(?=/|$)|^(?:[|;&]{1,2}|\d?>>?|<)(?=\s|$)|"
    r"\s(?:&&|\|\|?)\s|\s2>&1\b",
    re.ASCII,
)
"""What people write for a shell, and hardly ever for a program."""
_QUOTED = lazy_pattern(r"\"[^\"]*\"|'[^']*'")
# fmt: off
_SET_BY_BASH = frozenset((
    "BASH", "BASHOPTS", "BASHPID", "BASH_ALIASES", "BASH_ARGC", "BASH_ARGV", "BASH_CMDS",
    "BASH_COMMAND", "BASH_EXECUTION_STRING", "BASH_LINENO", "BASH_SOURCE", "BASH_SUBSHELL",
    "BASH_VERSINFO", "BASH_VERSION", "COMP_WORDBREAKS", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS",
    "EUID", "FUNCNAME", "HISTCMD", "IFS", "LINENO", "OLDPWD", "OPTERR", "OPTIND", "PIPESTATUS", "PPID",
    "PS1", "PS2", "PS4", "PWD", "RANDOM", "SHELLOPTS", "SHLVL", "SRANDOM", "_",
))
# fmt: on
"""Variables that bash sets when it starts, whatever is in its environment; a shell that runs a script has no PS1 and PS2.

Source: bash(1), Shell Variables, and tried with bash 5.2: of the other special variables SECONDS, UID and GROUPS keep
the value of the environment.
"""
_SET_BY_US = frozenset(("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"))
Path = tuple[str | int, ...]


def check_document(source: PlanInput, findings: Findings) -> None:
    """Add findings for hyphens in expressions, and warnings for variables that do not reach scripts."""
    _check_hyphens(source, findings)
    for operator in source.document.operators:
        if operator.type == "docker" and not source.rules.has_docker_operator:
            what = f'operator "{operator.name}" is of type docker, which sflow 0.3.1 does not know'
            where = findings.loaded.where("operators", operator.name, "type")
            findings.add("operator-unsupported", what, where, "write type: docker_run")
    sections = (
        ("variables", source.document.variables),
        ("workflow.variables", source.document.workflow.variables),
    )
    for section, variables in sections:
        for variable in variables:
            _warn_of_owned(variable.name, findings.loaded.where(section, variable.name), findings)
    for task in source.tasks:
        for index, variable in enumerate(task.variables):
            where = findings.loaded.where("tasks", task.name, "variables", index)
            _warn_of_owned(variable.name, where, findings)
        _warn_of_unspeakable(source, task, findings)
        _warn_of_truncation(task, findings)
        _warn_of_shell_in_args(task, findings)


def _warn_of_owned(name: str, where: str, findings: Findings) -> None:
    if name in _SET_BY_BASH:
        what = f'variable "{name}": bash sets it itself, so a script does not get this value from ${name}'
        findings.warn("shell-variable", what, where, f"write ${{{{ variables.{name} }}}}, or rename it")
    elif name in _SET_BY_US:
        what = f'variable "{name}" is replaced in every task with GPUs'
        findings.warn("reserved-name", what, where, "rename it")


def _warn_of_unspeakable(source: PlanInput, task: schema.Task, findings: Findings) -> None:
    """Warn of `$a-b` in a script, which a shell reads as `${a}-b`, where a variable has that name."""
    names = {one.name for one in (*source.variables, *task.variables) if not _SHELL_NAME.fullmatch(one.name)}
    for index, text in enumerate(task.script):
        for name in sorted(names):
            if f"${name}" in text or f"${{{name}}}" in text:
                what = f'task "{task.name}": a shell does not read ${name} as the variable "{name}"'
                where = findings.loaded.where("tasks", task.name, "script", index)
                findings.warn(
                    "shell-variable", what, where, f'write ${{{{ variables["{name}"] }}}}, or rename it'
                )


def _warn_of_truncation(task: schema.Task, findings: Findings) -> None:
    """Warn of a redirection that empties a log which the task writes itself."""
    if task.log != "direct":
        return
    for index, text in enumerate(task.script):
        match = _TRUNCATES.search(text)
        if match is not None:
            what = f'task "{task.name}": with `log: direct`, `{match[0].strip()}` empties its log'
            where = findings.loaded.where("tasks", task.name, "script", index)
            findings.warn("log-truncated", what, where, "write >&2 or >&1, or leave log: direct out")


def _warn_of_shell_in_args(task: schema.Task, findings: Findings) -> None:
    """Warn of what a shell would replace or act on in `args`, which reach the program as they are."""
    for name, value in task.args.items():
        for text in value if isinstance(value, list) else [value]:
            match = _FOR_A_SHELL.search(_EXPRESSION.sub("", text)) if isinstance(text, str) else None
            if match is None:
                continue
            found = match[0].strip()
            what = f'task "{task.name}": the program gets `{found}` of args.{name} as it is: args are quoted'
            variable = match["name"]
            hint = (
                f"write ${{{{ variables.{variable} }}}} if it is a variable of the workflow, or --{name} in the script"
                if variable
                else f"write --{name.lstrip('-')} with it in the script, if the shell is to act on it"
            )
            findings.warn("literal-args", what, findings.loaded.where("tasks", task.name, "args", name), hint)
            break


def _check_hyphens(source: PlanInput, findings: Findings) -> None:
    """Refuse `a-b` in an expression, which subtracts, where it spells the declared name of something else."""
    document = source.document
    values = {
        name: "variables"
        for name in (
            *(variable.name for variable in source.variables),
            *(variable.name for task in source.tasks for variable in task.variables),
        )
        if "-" in name
    }
    members = {
        "task": [task.name for task in source.tasks],
        "artifacts": [artifact.name for artifact in document.artifacts],
        "backends": [backend.name for backend in document.backends],
        "variables": list(values),
    }
    spellings = [
        (rf"{namespace}\.{re.escape(name)}", f'{namespace}["{name}"]', name)
        for namespace, names in members.items()
        for name in names
        if "-" in name
    ]
    spellings += [(re.escape(name), f'variables["{name}"]', name) for name in values]
    if not spellings:
        return
    patterns = [(re.compile(rf"(?<![\w.\-]){text}(?![\w-])"), right, name) for text, right, name in spellings]
    for section, owner, path, text in _texts(source):
        for expression in _EXPRESSION.findall(text):
            bare = _QUOTED.sub(lambda match: '"' + " " * (len(match[0]) - 2) + '"', expression)
            for pattern, right, name in patterns:
                if pattern.search(bare):
                    what = f'"{name}" in {expression.strip()} is a subtraction, but "{name}" is also a declared name'
                    hint = f"write {right} for the name, or blanks around the minus for the difference"
                    findings.add("hyphen-in-name", what, findings.loaded.where(section, owner, *path), hint)


def _texts(source: PlanInput) -> Iterator[tuple[str, str, Path, str]]:
    """Yield (section, name, path, text) of all texts with an expression."""
    document = source.document
    for section, items in (
        ("variables", document.variables),
        ("workflow.variables", document.workflow.variables),
        ("artifacts", document.artifacts),
        ("backends", document.backends),
        ("operators", document.operators),
        ("environments", document.environments),
        ("tasks", document.workflow.tasks),
    ):
        for item in items:
            for path, text in _walk(msgspec.to_builtins(item, enc_hook=str), ()):
                yield section, item.name, path, text


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if "${{" in value or "{%" in value:
            yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _walk(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _walk(member, (*path, index))
