"""Which expressions must wait for the outputs of earlier tasks, and whether those will be there by then."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.plan import LateExpression
from sflow_ctl.spec import schema
from sflow_ctl.spec.expressions import MARK, as_text, evaluate, names_used, pieces

_OUTPUTS = re.compile(r"\boutputs\b")
_NAMED = re.compile(r"\btask(?:\.(\w+)|\[\s*[\"']([^\"']+)[\"']\s*\])")


def is_late(text: str) -> bool:
    """True for a text with an expression that uses `task.NAME.outputs`."""
    return MARK in text and any(_needs_outputs(piece.text) for piece in pieces(text) if piece.is_expression)


def _needs_outputs(source: str) -> bool:
    return _OUTPUTS.search(source) is not None and "task" in names_used(f"{MARK} {source} }}}}")


def rendered_early(text: str, names: Mapping[str, Any]) -> tuple[str, list[LateExpression]]:
    """The text with all but its late expressions evaluated; those stay in it as marks.

    Raises: ExpressionError.
    """
    parts, late = [], []
    for piece in pieces(text):
        mark = f"{MARK} {piece.text} }}}}"
        if not piece.is_expression:
            parts.append(piece.text)
        elif _needs_outputs(piece.text):
            used = names_used(mark) - {"task"}
            late.append(LateExpression(mark=mark, names={name: names[name] for name in used & names.keys()}))
            parts.append(mark)
        else:
            parts.append(as_text(evaluate(mark, names)))
    return "".join(parts), late


def tasks_named(mark: str) -> list[str]:
    """The tasks that an expression names, concrete or as written."""
    return [match[1] or match[2] for match in _NAMED.finditer(mark)]


def check_sources(
    task: schema.Task,
    late: Sequence[LateExpression],
    tasks: Mapping[str, schema.Task],
    base_of: Mapping[str, str],
    ancestors: Callable[[str], frozenset[str]],
    path: tuple[str | int, ...],
) -> None:
    """Tasks that late expressions name must have outputs, and have completed before. Raises: UnplannableError."""
    for one in late:
        for name in tasks_named(one.mark):
            base = base_of.get(name)
            if base is None:
                known = ", ".join(list(tasks)[:10])
                what = f'Failed to resolve task expression: task "{task.name}": "{name}" is not defined'
                raise UnplannableError("undefined-name", what, f"tasks here: {known}", path)
            if not tasks[base].outputs:
                what = f'task "{task.name}" uses the outputs of "{base}", which declares none'
                raise UnplannableError("no-outputs", what, f"add outputs: to task {base}", path)
            if base not in ancestors(task.name):
                what = (
                    f'task "{task.name}" uses the outputs of "{base}", which need not have completed by then'
                )
                raise UnplannableError("outputs-too-late", what, f"add {base} to its depends_on", path)
            if tasks[base].is_service:
                what = f'task "{task.name}" uses the outputs of "{base}", a service: they are known only at its end'
                raise UnplannableError("outputs-too-late", what, "take them from a task that completes", path)
