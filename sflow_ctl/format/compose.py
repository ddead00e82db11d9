"""Writes the merged document as one file, with `--resolve` after evaluating its expressions. Serves `compose` and `batch`.

Resolving keeps the meaning: every variable stays, so that the environment of tasks is the same, and only expressions with one
certain value are replaced. Whatever depends on a swept variable, on nodes, artifacts or tasks stays an expression.
"""

import copy
from collections.abc import Mapping, Set
from typing import Any

from sflow_ctl.format.expressions.templates import EXPRESSION_START, as_text, evaluate, names_used, pieces
from sflow_ctl.format.loader import LoadedDocument
from sflow_ctl.format.yaml_source import dump
from sflow_ctl.plan.errors import ExpressionError

_LATER = frozenset(("backends", "artifacts", "workflow", "task", "replica", "sweep"))
_NEVER_EVALUATED = frozenset(("name", "depends_on", "domain", "description", "type", "content"))
"""Keys whose texts are not expressions, or (content) are whole templates."""


def compose(loaded: LoadedDocument, is_resolved: bool = False) -> str:
    """Return the document as YAML text, with values in place of expressions if `is_resolved`."""
    data = loaded.composed_data()
    data = {key: part if key == "settings" else without_nulls(part) for key, part in data.items()}
    return dump(resolve_document(data) if is_resolved else data)


def without_nulls(data: Any) -> Any:
    """Return data without keys whose value is null, except a variable's `value: null`, which has a meaning."""
    if isinstance(data, dict):
        is_variable = "name" in data and "value" in data
        return {
            key: without_nulls(value)
            for key, value in data.items()
            if value is not None or (is_variable and key == "value")
        }
    if isinstance(data, list):
        return [without_nulls(item) for item in data]
    return data


def resolve_document(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a composed document (list forms) with expressions replaced where their value is certain."""
    result: dict[str, Any] = copy.deepcopy(dict(data))
    workflow = result["workflow"]
    tasks = workflow["tasks"]
    levels = [*result.get("variables", []), *workflow.get("variables", [])]
    open_names = _open_names(levels, tasks) | _swept_names(result.get("sweep"), tasks)
    values = _known_values(levels, open_names)
    for section in ("variables", "backends", "operators", "environments", "artifacts", "signatures"):
        if section in result:
            result[section] = [_resolved(item, values) for item in result[section]]
    if "variables" in workflow:
        workflow["variables"] = [_resolved(item, values) for item in workflow["variables"]]
    if "success" in workflow:
        workflow["success"] = _resolved(workflow["success"], values)
    workflow["tasks"] = [_resolved(task, _without_own(values, task)) for task in tasks]
    return result


def _open_names(levels: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> set[str]:
    """Return the variables without one certain value: swept ones, and ones defined at both levels."""
    names = [variable["name"] for variable in levels]
    found = {name for name in names if names.count(name) > 1}
    for task in tasks:
        replicas = task.get("replicas")
        if isinstance(replicas, dict):
            found.update(name for name in replicas.get("variables") or () if isinstance(name, str))
    return found


def _swept_names(sweep: Any, tasks: list[dict[str, Any]]) -> set[str]:
    """Return the variables that differ between the cells of a sweep."""
    sweeps = [one for one in (sweep, *(task.get("sweep") for task in tasks)) if isinstance(one, dict)]
    parts = [part for one in sweeps for part in (one, *(one.get("cases") or ()))]
    paths = [path for part in parts for key in ("axes", "set") for path in part.get(key) or ()]
    return {path.removeprefix("variables.") for path in paths}


def _known_values(levels: list[dict[str, Any]], open_names: Set[str]) -> dict[str, Any]:
    from sflow_ctl.format.casting import cast

    pending = {variable["name"]: variable for variable in levels if variable["name"] not in open_names}
    known: dict[str, Any] = {}
    has_progress = True
    while has_progress:
        has_progress = False
        for name, variable in list(pending.items()):
            value = _value(variable.get("value"), known)
            if _has_expression(value):
                continue
            del pending[name]
            has_progress = True
            try:
                known[name] = cast(value, variable.get("type"))
            except ValueError:
                continue  # planning reports it
    return known


def _without_own(values: Mapping[str, Any], task: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values that are certain inside a task: its own variables hide those of the same name."""
    own = {variable["name"] for variable in task.get("variables") or ()}
    return {name: value for name, value in values.items() if name not in own} if own else values


def _resolved(data: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(data, dict):
        return {
            key: value if key in _NEVER_EVALUATED else _resolved(value, values) for key, value in data.items()
        }
    return _value(data, values)


def _value(data: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(data, str):
        return _text(data, values) if EXPRESSION_START in data else data
    if isinstance(data, list):
        return [_resolved(item, values) for item in data]
    if isinstance(data, dict):
        return {key: _resolved(value, values) for key, value in data.items()}
    return data


def _text(text: str, values: Mapping[str, Any]) -> Any:
    """Replace the expressions of a text that have a certain value; a text that is one expression keeps its native value."""
    if "{% raw %}" in text:
        return text  # its literal text would become an expression
    parts = pieces(text)
    if len(parts) == 1:
        value, is_known = _try(f"{EXPRESSION_START} {parts[0].text} }}}}", values)
        return value if is_known else text
    done = []
    for part in parts:
        source = f"{EXPRESSION_START} {part.text} }}}}"
        value, is_known = _try(source, values) if part.is_expression else (part.text, True)
        done.append(as_text(value) if is_known else source)
    return "".join(done)


def _try(source: str, values: Mapping[str, Any]) -> tuple[Any, bool]:
    if names_used(source) & _LATER:
        return None, False
    try:
        value = evaluate(source, {**values, "variables": values})
    except ExpressionError:
        return None, False
    return value, not _has_expression(value)


def _has_expression(value: Any) -> bool:
    if isinstance(value, str):
        return EXPRESSION_START in value
    if isinstance(value, dict):
        return any(map(_has_expression, value.values()))
    return isinstance(value, list) and any(map(_has_expression, value))
