"""Phases for variables: resolved whatever their order in the file, and cast to their types, at two levels."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sflow_ctl.format import schema
from sflow_ctl.format.casting import cast
from sflow_ctl.format.expressions.templates import EXPRESSION_START, evaluate_any, names_used
from sflow_ctl.format.written import json_number
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.planner.findings import Findings
from sflow_ctl.planner.phases.late_variables import split_late
from sflow_ctl.planner.source import NAMESPACES, PlanInput, Scope, domains_of, namespace, workflow_view


def resolve(
    variables: Sequence[schema.Variable],
    outer: Mapping[str, Any],
    others: Mapping[str, Any],
    section: str,
    findings: Findings,
) -> dict[str, Any]:
    """Return the values of all variables of a level, by name; `outer` are those of the level around it.

    A value is evaluated again as long as it contains an expression. A variable that cannot be resolved is a
    finding: the real cause if there is one, else the cycle.
    """
    pending = {variable.name: variable for variable in variables}
    known: dict[str, Any] = {}
    for variable in variables:
        if not _needs_evaluation(variable.value):
            del pending[variable.name]
            _settle(variable, variable.value, known, section, findings)
    values: dict[str, Any] = {name: variable.value for name, variable in pending.items()}
    while pending:
        progress = False
        for name, variable in list(pending.items()):
            visible = {key: value for key, value in outer.items() if key not in pending} | known
            try:
                if _names_of(values[name]) & (pending.keys() - visible.keys()):
                    continue
                value = evaluate_any(values[name], namespace(visible, others))
            except ExpressionError as error:
                if error.is_undefined and _may_still_come(values[name], pending, name):
                    continue
                where = findings.loaded.where(section, name, "value")
                code = "undefined-name" if error.is_undefined else "expression-failed"
                phrase = f"Unresolved variable expressions (missing refs or cycle): {name}"
                what = f"{phrase}: {error.text}" if error.is_undefined else f'variable "{name}": {error.text}'
                findings.add(code, what, where, error.hint or _phase_hint(values[name], others))
                del pending[name]
                progress = True
                continue
            progress = True
            if _needs_evaluation(value) and value != values[name]:
                values[name] = value
                continue
            del pending[name]
            _settle(variable, value, known, section, findings)
        if not progress:
            names = ", ".join(sorted(pending))
            what = f"Unresolved variable expressions (missing refs or cycle): {names}"
            where = findings.loaded.where(section, min(pending), "value")
            findings.add("variable-cycle", what, where, "these variables use each other in a circle")
            break
    return known


def _phase_hint(value: Any, others: Mapping[str, Any]) -> str | None:
    """Return a hint about a namespace that is not known yet, if the value needs one."""
    early = sorted(_namespaces_in(value) - others.keys() - {"variables"})
    if not early:
        return None
    if early == ["task"]:
        return "task is known once tasks are placed: use it in a script or a probe"
    return (
        f"{', '.join(early)} is not known here yet: make it a variable of the workflow (workflow.variables)"
    )


def _namespaces_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(names_used(value)) & set(NAMESPACES) if EXPRESSION_START in value else set()
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_namespaces_in, members))


def _names_of(value: Any) -> set[str]:
    """Return the variables that a value's expressions name, bare or as `variables.X`, as far as the text shows."""
    if isinstance(value, str):
        return set(names_used(value)) - set(NAMESPACES) if EXPRESSION_START in value else set()
    if isinstance(value, list):
        return set().union(*(_names_of(item) for item in value)) if value else set()
    if isinstance(value, dict):
        return set().union(*(_names_of(item) for item in value.values())) if value else set()
    return set()


def _may_still_come(value: Any, pending: Mapping[str, object], name: str) -> bool:
    """Return whether the text names a variable, as `variables.X`, that is not resolved yet."""
    text = str(value)
    return any(other != name and other in text for other in pending)


def _needs_evaluation(value: Any) -> bool:
    if isinstance(value, str):
        return EXPRESSION_START in value
    if isinstance(value, list):
        return any(_needs_evaluation(item) for item in value)
    if isinstance(value, dict):
        return any(_needs_evaluation(item) for item in value.values())
    return False


def _settle(
    variable: schema.Variable, value: Any, known: dict[str, Any], section: str, findings: Findings
) -> None:
    try:
        known[variable.name] = cast(value, variable.type)
    except ValueError as error:
        where = findings.loaded.where(section, variable.name, "value")
        is_secret = variable.name in findings.loaded.document.secrets
        why = str(error).partition(", is ")[0] if is_secret else str(error)
        what = f'variable "{variable.name}": {why}'
        findings.add("wrong-value", what, where, "change the value or its type")
        known[variable.name] = value


def environment_text(value: Any) -> str:
    """Return a value as the text of an environment variable: scalars in Python's spelling, lists and mappings as JSON."""
    if isinstance(value, list | dict | tuple):
        return msgspec.json.encode(value, enc_hook=json_number).decode()
    return value if isinstance(value, str) else str(value)


def resolve_global(source: PlanInput, findings: Findings) -> Scope:
    """Phase: resolve the variables of the document that need nothing else. The others follow in `resolve_late`."""
    domains = domains_of(source.document)
    if source.document.workflow.inputs:
        domains["workflow"] = workflow_view(source.document)
    variables, _ = split_late(source.document.variables)
    values = resolve(variables, {}, domains, "variables", findings)
    findings.stop_if_any()
    return Scope(source.rules.typed(variables, values), domains)


def resolve_late(source: PlanInput, scope: Scope, namespaces: Mapping[str, Any], findings: Findings) -> Scope:
    """Phase: resolve the variables of the document that need no more than the `namespaces` that are known now."""
    _, late = split_late(source.document.variables)
    due = [
        variable
        for variable in source.document.variables
        if variable.name not in scope.values and late.get(variable.name, frozenset()) <= namespaces.keys()
    ]
    known = {**scope.namespaces, **namespaces}
    if not due:
        return Scope(scope.values, known)
    values = resolve(due, scope.values, known, "variables", findings)
    findings.stop_if_any()
    return Scope({**scope.values, **source.rules.typed(due, values)}, known)


def resolve_workflow(
    source: PlanInput,
    outer: Scope,
    backends: Mapping[str, Any],
    artifacts: Mapping[str, Any],
    findings: Findings,
) -> Scope:
    """Phase: resolve the variables of the workflow, which see backends and artifacts as well."""
    workflow = source.document.workflow
    others = {
        "backends": backends,
        "workflow": workflow_view(source.document),
        "artifacts": artifacts,
        **domains_of(source.document),
    }
    own = resolve(workflow.variables, outer.values, others, "workflow.variables", findings)
    values = {**outer.values, **source.rules.typed(workflow.variables, own)}
    for name in values:
        if name in NAMESPACES:
            what = f'variable "{name}" has the name of a namespace: ${{{{ {name} }}}} is the namespace'
            where = findings.loaded.where_any(("workflow.variables", "variables"), name)
            findings.warn("namespace-name", what, where, f"write variables.{name}")
    return Scope(values, others)


def recomputed(
    source: PlanInput, namespaces: Mapping[str, Any], swept: Mapping[str, Any], findings: Findings
) -> dict[str, Any]:
    """Return all variables again with swept values in place; nothing where no variable is computed."""
    if not swept or not any(_needs_evaluation(variable.value) for variable in source.variables):
        return {}
    variables = [
        variable
        if variable.name not in swept
        else msgspec.structs.replace(variable, value=swept[variable.name])
        for variable in source.variables
    ]
    return resolve(variables, {}, namespaces, "variables", findings)


def swept_names(
    source: PlanInput, scope: Scope, swept: Mapping[str, Any], findings: Findings
) -> dict[str, Any]:
    """Return the names that an expression outside tasks sees, with swept values."""
    again = recomputed(source, scope.namespaces, swept, findings)
    return namespace({**scope.values, **again, **swept}, scope.namespaces)
