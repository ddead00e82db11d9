"""Finds variables of the document that use backends or artifacts, directly or through others, and so come late.

Called by the phases of variables, backends and artifacts.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START, names_used
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.planner.findings import Findings

_LATE = frozenset(("backends", "artifacts"))
_MEMBER = lazy_pattern(r"\bvariables\s*(?:\.\s*(\w+)|\[\s*['\"]([^'\"]+)['\"]\s*\])")


def split_late(
    variables: Sequence[schema.Variable],
) -> tuple[list[schema.Variable], dict[str, frozenset[str]]]:
    """Return the variables that can be resolved at once, and for each of the others the namespaces that it needs."""
    names = {variable.name: referenced(variable.value) for variable in variables}
    late = {name: used & _LATE for name, used in names.items() if used & _LATE}
    if not late:
        return list(variables), {}
    has_changed = True
    while has_changed:
        has_changed = False
        for name, used in names.items():
            needs = late.get(name, frozenset()).union(*(late[one] for one in used if one in late))
            if needs != late.get(name, frozenset()):
                late[name] = needs
                has_changed = True
    return [variable for variable in variables if variable.name not in late], late


def referenced(value: Any) -> frozenset[str]:
    """Return the names that the expressions of a value use, `variables.NAME` as NAME."""
    if isinstance(value, str):
        if EXPRESSION_START not in value:
            return frozenset()
        members = {match[1] or match[2] for match in _MEMBER.finditer(value)}
        try:
            return names_used(value) | members
        except ExpressionError:  # reported where it is evaluated
            return frozenset(members)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return frozenset().union(*map(referenced, inside))


def refuse_late(
    section: str,
    parts: Sequence[schema.Backend] | Sequence[schema.Artifact],
    late: Mapping[str, Set[str]],
    findings: Findings,
) -> None:
    """Refuse fields of backends or artifacts that use variables which are computed after them. Problems are findings."""
    early = frozenset() if section == "backends" else frozenset({"backends"})
    unknown = {name for name, needs in late.items() if not needs <= early}
    if not unknown:
        return
    for part in parts:
        for field, value in msgspec.to_builtins(part, enc_hook=str).items():
            if field == "content":  # written once everything is known
                continue
            for name in sorted(referenced(value) & unknown):
                after = " and ".join(sorted(late[name]))
                what = (
                    f'Deferred global variable "{name}" in {field} of {section}.{part.name}: it uses {after}'
                )
                where = findings.loaded.where(section, part.name, field)
                hint = f"it is computed after the {section}: use a variable that needs neither"
                findings.add("deferred-variable", what, where, hint)
