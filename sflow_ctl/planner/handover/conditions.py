"""Plans the condition under which a task runs: its value, if that is known, else what it is made of."""

from collections.abc import Callable
from typing import Any

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import names_used, pieces
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.plan.parts.conditions import condition_of
from sflow_ctl.plan.results import PlannedWhen
from sflow_ctl.planner.findings import UnplannableError

_TEXT = lazy_pattern(r"'[^']*'|\"[^\"]*\"")
_OPERAND = lazy_pattern(r"(?<![.\w])[A-Za-z_]\w*(?:\.\w+|\[\d+\]|\[''\])*")
_MAX_OPERANDS = 8


def plan_when(
    task: schema.Task, render: Callable[..., tuple[Any, list[DeferredExpression]]]
) -> PlannedWhen | None:
    """Return a task's condition; None for one that always holds. Raises: UnplannableError, ExpressionError."""
    written = task.when
    text = str(written).lower() if isinstance(written, bool) else str(written)
    value, deferred = (written, []) if isinstance(written, bool) else render(written, ("when",))
    if not deferred:
        try:
            holds = condition_of(value)
        except ExpressionError as error:
            what = f'task "{task.name}": {error.text}'
            hint = "write an expression, as in when: ${{ task.check.outputs.score > 0.9 }}"
            raise UnplannableError("wrong-value", what, hint, ("when",)) from None
        return None if holds else PlannedWhen(text=text, value=False)
    if len([piece for piece in pieces(text) if piece.is_expression or piece.text.strip()]) > 1:
        what = f'task "{task.name}": its condition `when` is a text with expressions in it: {text}'
        raise UnplannableError("wrong-value", what, "put all of it into one ${{ ... }}", ("when",))
    names = {name: one for each in deferred for name, one in each.names.items()}
    return PlannedWhen(text=text, names=names, operands=_operands(text))


def _operands(text: str) -> tuple[str, ...]:
    """Return the values that an expression is made of, as people write them."""
    used = names_used(text)
    source = _TEXT.sub("''", text)
    found = (
        match[0]
        for match in _OPERAND.finditer(source)
        if match[0].partition(".")[0].partition("[")[0] in used
    )
    return tuple(dict.fromkeys(one for one in found if "['']" not in one))[:_MAX_OPERANDS]
