"""Finds out which tasks use which artifacts, from names in their texts, directly or through a variable."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct, field

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START, pieces
from sflow_ctl.plan.artifact_mentions import strings_in
from sflow_ctl.plan.errors import ExpressionError

_IN_EXPRESSION = r"\bartifacts(?:\.(\w+)|\[\s*[\"']([^\"']+)[\"']\s*\])"
_IN_SHELL = r"\$\{?([A-Za-z_]\w*)"
_WORD = r"[A-Za-z_]\w*"
Mentions = dict[str, frozenset[str]]
"""Maps words to the artifacts that they mean."""


class ArtifactUse(Struct, frozen=True):
    """Which tasks use which artifacts."""

    is_any_here: bool = True
    """Some task runs on this machine."""
    of_tasks_elsewhere: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Base tasks on other machines to the artifacts they use, in file order."""
    elsewhere: dict[str, bool] = field(default_factory=dict)
    """Artifacts that no task on this machine uses, but one on another machine does."""


def artifact_use(document: schema.Document, is_elsewhere: Callable[[schema.Task], bool]) -> ArtifactUse:
    """Return which tasks use which artifacts; examined only if some task runs on another machine."""
    if not document.artifacts:
        return ArtifactUse()
    here = {task.name for task in document.workflow.tasks if not is_elsewhere(task)}
    if len(here) == len(document.workflow.tasks):
        return ArtifactUse()
    used = _artifacts_used(document)
    elsewhere = {}
    for artifact in document.artifacts:
        users = {task for task, names in used.items() if artifact.name in names}
        # An artifact that no text names may still be read from the environment, by any task.
        if not (users or here) & here:
            elsewhere[artifact.name] = bool(users)
    of_tasks = {task: names for task, names in used.items() if task not in here}
    return ArtifactUse(bool(here), of_tasks, elsewhere)


def _artifacts_used(document: schema.Document) -> dict[str, tuple[str, ...]]:
    artifacts = {artifact.name: frozenset((artifact.name,)) for artifact in document.artifacts}
    variables = (*document.variables, *document.workflow.variables)
    # In a shell a variable hides an artifact of its name; expressions have a namespace for each.
    in_shell = artifacts | {variable.name: frozenset() for variable in variables}
    through: dict[str, frozenset[str]] = {}
    is_growing = True
    while is_growing:  # variables may name each other in any order
        is_growing = False
        for variable in variables:
            found = _mentioned(variable.value, artifacts, in_shell | through, through)
            if found - through.get(variable.name, frozenset()):
                through[variable.name] = found
                is_growing = True
    operators = {operator.name: operator for operator in document.operators}
    environments = {one.name: one for one in document.environments}

    def environment(task: schema.Task) -> schema.EnvironmentSteps | None:
        given = task.environment if task.environment is not None else document.workflow.environment
        return environments.get(given) if isinstance(given, str) else given

    result = {}
    for task in document.workflow.tasks:
        name = task.operator if isinstance(task.operator, str) else (task.operator or {}).get("name")
        parts = (
            task.script,
            task.operator,
            operators.get(str(name)),
            task.probes,
            task.variables,
            environment(task),
        )
        used = _mentioned(msgspec.to_builtins(parts, enc_hook=str), artifacts, in_shell | through, through)
        result[task.name] = tuple(one for one in artifacts if one in used)
    return result


def _mentioned(
    value: Any, artifacts: Mentions, in_shell: Mentions, in_expressions: Mentions
) -> frozenset[str]:
    found: set[str] = set()
    for text in strings_in(value):
        for match in re.finditer(_IN_SHELL, text):
            found |= in_shell.get(match[1], frozenset())
        if EXPRESSION_START not in text:
            continue
        for source in _expressions(text):
            for match in re.finditer(_IN_EXPRESSION, source):
                found |= artifacts.get(match[1] or match[2], frozenset())
            for word in re.findall(_WORD, source):
                found |= in_expressions.get(word, frozenset())
    return frozenset(found)


def _expressions(text: str) -> Iterator[str]:
    try:
        yield from (piece.text for piece in pieces(text) if piece.is_expression)
    except ExpressionError:
        return  # the evaluation reports it
