"""Checks the signatures of a workflow, so that an invalid pattern is found before the first failure."""

from collections.abc import Mapping, Sequence
from typing import Any

from protocol.diagnosis.signatures import Signature, problem_of
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import as_text, evaluate_any
from sflow_ctl.format.rules.definitions import reason_of
from sflow_ctl.planner.findings import Findings


def plan_signatures(
    signatures: Sequence[schema.Signature], names: Mapping[str, Any], findings: Findings
) -> tuple[Signature, ...]:
    """Return the valid signatures in the order of the file; the others are findings."""
    planned = []
    for one in signatures:
        with findings.collecting("signatures", one.name, subject=f'signature "{one.name}"'):
            fields = (reason_of(one), one.pattern, one.text, one.hint)
            reason, pattern, text, hint = (as_text(evaluate_any(field, names)) for field in fields)
            signature = Signature(name=one.name, reason=reason, pattern=pattern, text=text, hint=hint)
            problem = problem_of(signature)
            if problem is not None:
                field, what = problem
                place = findings.loaded.where("signatures", one.name, field)
                findings.add("wrong-signature", f'signature "{one.name}": {what}', place)
            planned.append(signature)
    return tuple(planned)
