"""Applies `settings.validation` to the findings of a plan. Pure; called when everything about a plan is known."""

from msgspec.structs import replace

from protocol.errors import Finding, PlanError
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.words import Policies


def judged(plan: Plan, policies: Policies) -> Plan:
    """Return the plan with the warnings that are left, and with what was said. Raises: PlanError for those that are errors."""
    errors = [
        replace(one, hint=refusal_hint(one)) for one in plan.warnings if policies.word(one.code) == "error"
    ]
    if errors:
        raise PlanError(errors)
    warnings = tuple(one for one in plan.warnings if policies.word(one.code) != "off")
    return replace(plan, warnings=warnings, policies=policies)


def refusal_hint(finding: Finding) -> str:
    """Return the hint of a warning that refuses the run."""
    why = "settings.validation makes it an error"
    return f"{finding.hint}; {why}" if finding.hint else why
