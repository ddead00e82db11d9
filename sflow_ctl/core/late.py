"""Expressions that wait for the outputs of earlier tasks: evaluated when their task starts. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from sflow_ctl.planner.plan import Plan, PlannedTask
from sflow_ctl.spec.expressions import ExpressionError, as_text, evaluate


def filled_in(task: PlannedTask, plan: Plan, outputs: Mapping[str, Mapping[str, Any]]) -> PlannedTask:
    """The task with its late expressions replaced. `outputs` are those of the tasks that have completed.

    Raises: ExpressionError with the real cause.
    """
    if not task.late:
        return task
    import msgspec

    texts = {}
    for late in task.late:
        names = {**late.names, "task": _Tasks(plan.task_views, outputs)}
        try:
            texts[late.mark] = as_text(evaluate(late.mark, names))
        except ExpressionError as error:
            hint = "" if error.hint is None else f" ({error.hint})"
            raise ExpressionError(f"{error.text}{hint}; it has {_described(outputs)}") from error

    def fill(text: str) -> str:
        for mark, value in texts.items():
            text = text.replace(mark, value)
        return text

    return msgspec.structs.replace(
        task,
        argv=tuple(map(fill, task.argv)),
        script=fill(task.script),
        env={name: fill(value) for name, value in task.env.items()},
        late=(),
    )


def _described(outputs: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [f"{name}: {', '.join(values) or 'nothing'}" for name, values in list(outputs.items())[:5]]
    return "; ".join(parts) or "no outputs of any task"


class _Tasks(Mapping[str, Any]):
    """The `task` namespace with outputs, made as it is asked for."""

    def __init__(self, views: Mapping[str, Any], outputs: Mapping[str, Mapping[str, Any]]) -> None:
        self._views, self._outputs = views, outputs

    def __getitem__(self, name: str) -> Any:
        view = self._views[name]
        if isinstance(view, list):
            return [self[replica] for replica in view]
        return {**view, "outputs": self._outputs[name]} if name in self._outputs else view

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)
