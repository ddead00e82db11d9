"""Plans the outputs of a task that its agent finds: rules with expressions evaluated."""

from collections.abc import Callable, Iterable
from typing import Any

from protocol.messages.handover import PATH_KINDS, BestBy, FileSelection, OutputRule, ValueType
from protocol.typed_values import WrongTypeError, typed
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import as_text
from sflow_ctl.format.rules.handover.checkpoints import leading_out
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_flag, as_int, at


def plan_found(
    name: str, outputs: Iterable[schema.Output], evaluate: Callable[[Any], Any]
) -> tuple[OutputRule, ...]:
    """Return the rules of the outputs of task `name`, in the order of the file. Raises: UnplannableError, ExpressionError."""
    return tuple(
        _plan_one(name, output, index, evaluate) for index, output in enumerate(outputs) if output.is_found
    )


def _plan_one(task: str, output: schema.Output, index: int, evaluate: Callable[[Any], Any]) -> OutputRule:
    kind, place = output.found_kind, ("outputs", index)

    def refuse(field: str, problem: str, hint: str | None = None) -> UnplannableError:
        what = f'output "{output.name}" of task "{task}" {problem}'
        return UnplannableError("wrong-output", what, hint, (*place, field))

    def inside(text: str, field: str) -> str:
        path = as_text(evaluate(text))
        problem = leading_out(path)
        if problem is not None:
            hint = "paths are relative to the task's directory, and stay in it"
            raise refuse(field, f'has the path "{path}", which {problem}', hint)
        return "/".join(part for part in path.split("/") if part not in ("", "."))

    def checked(field: str) -> Any:
        value = evaluate(getattr(output, field))
        if value is None:
            return None
        try:
            return typed(value, output.type)
        except WrongTypeError as error:
            raise refuse(
                field, f"has a {field} of another type: {error}", f"correct {field} or type"
            ) from None

    default, select = checked("default"), as_text(evaluate(output.select))
    required = None if output.required is None else evaluate(output.required)
    best = output.best
    return OutputRule(
        name=str(output.name),
        kind=kind,
        selection=FileSelection(
            globs=tuple(inside(path, "path") for path in output.path),
            select=select if select in ("latest", "best") else inside(select, "select"),
        ),
        best=None
        if best is None
        else BestBy(
            path=best.path, key=as_text(evaluate(best.key)), mode=best.mode, step=as_text(evaluate(best.step))
        ),
        json=None if output.json is None else as_text(evaluate(output.json)),
        type=output.type,
        value=checked("value") if kind == "value" else None,
        is_required=default is None and kind != "files" if required is None else as_flag(required),
        has_default=default is not None,
        default=default,
        max_files=at((*place, "max_files"), as_int, evaluate(output.max_files), 1),
        takes_stale=output.stale == "ok",
        store=output.store,
        has_digest=at((*place, "digest"), as_flag, evaluate(output.digest)),
    )


def type_of_output(output: schema.Output) -> ValueType | None:
    """Return the type of the values of an output; None where that is not known."""
    kind = output.found_kind
    if kind in PATH_KINDS:
        return "paths" if kind == "files" else "path"
    return "float" if kind == "metric" and output.type is None else output.type
