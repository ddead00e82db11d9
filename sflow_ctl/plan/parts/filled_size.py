"""Refuses a task whose texts would be too large with the values of their expressions. Pure."""

from collections.abc import Sequence

from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedTask

MAX_FILLED = 10_000_000
"""Characters of a task's script, command, environment and files with its values: an order to start is one packet."""


def check_size(task: PlannedTask, values: Sequence[str], files: Sequence[str]) -> None:
    """Refuse what would be too large, before any of it is made. Raises: ExpressionError."""
    parts = (*task.argv, task.script, *task.env.values())
    size = sum(map(len, parts)) + sum(map(len, files))
    for deferred, value in zip(task.deferred, values, strict=True):
        size += len(value) * sum(part.count(deferred.placeholder) for part in parts)
    if size > MAX_FILLED:
        largest = max(zip(values, task.deferred, strict=True), key=lambda one: len(one[0]))
        raise ExpressionError(
            f"its script, command, environment and files would have {size} characters with the values of their expressions, and "
            f"may have {MAX_FILLED}; the longest value has {len(largest[0])}: {_shown(largest[1].placeholder)} "
            "(pass it in a file)"
        )


def _shown(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
