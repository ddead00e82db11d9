"""The labels of a run: the workflow's, with expressions evaluated, and those of the command line. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from protocol.errors import Finding, PlanError
from sflow_ctl.format.expressions.templates import evaluate_any
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.planner.fields import LABEL_NAME, LABEL_RULE


def run_labels(
    written: Mapping[str, str], said: Sequence[str], variables: Mapping[str, Any]
) -> dict[str, str]:
    """Return the labels by name. `said` are `NAME=VALUE` and win. Raises: PlanError with every problem."""
    found: dict[str, str] = {}
    findings: list[Finding] = []
    names = {**variables, "variables": variables}
    for name, text in written.items():
        where = f"workflow.labels.{name}"
        if not LABEL_NAME.match(name):
            findings.append(Finding("label", f'"{name}" is not a name for a label', where, LABEL_RULE))
            continue
        try:
            found[name] = str(evaluate_any(text, names))
        except ExpressionError as error:
            findings.append(
                Finding("expression", str(error), where, "labels may use variables of the workflow")
            )
    for text in said:
        name, is_there, value = text.partition("=")
        if not is_there or not LABEL_NAME.match(name):
            hint = f"write NAME=VALUE; {LABEL_RULE}"
            findings.append(Finding("label", f'"{text}" is not a label', f"--label {text}", hint))
        else:
            found[name] = value
    if findings:
        raise PlanError(findings)
    return found
