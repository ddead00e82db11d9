"""What `outputs.json` has of a task's values, and the values again for a run that continues. Pure.

JSON has no NaN and no infinities: they are null there, and `not_finite` says which. Used by the output collector and by a
resume.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from protocol.messages.handover import PATH_KINDS, FoundOutput
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.masking import mark_of
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.results import PlannedOutput

_FIELD = lazy_pattern(r"\{(\w+)")


def outputs_document(
    task: str,
    values: Any,
    metrics: Any,
    specs: Sequence[Any],
    found: Sequence[FoundOutput] = (),
    attempt: int = 0,
) -> dict[str, Any]:
    """Return the content of a task's `outputs.json`; `found` are records of what its agent has found."""
    values = {**values, **values_of_found(found)}
    document: dict[str, Any] = {"outputs": values, "specs": specs, "task": task}
    if found:
        document |= {"attempt": attempt, "found": [msgspec.to_builtins(one) for one in found]}
    if metrics:
        document["metrics"] = metrics
    marks = dict(_not_finite({"outputs": values, "metrics": metrics}, ""))
    if marks:
        document["not_finite"] = marks
    return document


def values_of(document: Any, planned: Sequence[PlannedOutput]) -> dict[str, Any] | None:
    """Return the values that a document has, in the order of the plan's outputs; None for one that is not ours."""
    if not isinstance(document, dict):
        return None
    parts, marks = (document.get(key, {}) for key in ("outputs", "metrics")), document.get("not_finite", {})
    outputs, metrics = parts
    if not (isinstance(outputs, dict) and isinstance(metrics, dict) and isinstance(marks, dict)):
        return None
    restored = {"outputs": outputs, "metrics": metrics}
    for path, text in marks.items():
        _put(restored, [_unquoted(step) for step in path.split("/")[1:]], text)
    values = {**outputs, **metrics}
    places = {name: place for place, name in enumerate(dict.fromkeys(_names(planned)))}
    return dict(sorted(values.items(), key=lambda one: places.get(one[0], len(places))))


def values_of_found(found: Iterable[FoundOutput]) -> dict[str, Any]:
    """Return the values of what an agent has found: paths of files, a list of them, or the values themselves."""
    values: dict[str, Any] = {}
    for one in found:
        if one.is_missing:
            if one.is_default:
                values[one.name] = one.value
        elif one.kind == "files":
            values[one.name] = [file.path for file in one.files]
        else:
            values[one.name] = one.path if one.kind in PATH_KINDS or one.is_large else one.value
    return values


def found_in(document: Any) -> tuple[FoundOutput, ...] | None:
    """Return the records that a document has; None for one that is not ours."""
    if not isinstance(document, dict):
        return None
    try:
        return msgspec.convert(document.get("found", []), tuple[FoundOutput, ...])
    except msgspec.ValidationError:
        return None


def has_masked(value: Any, names: Iterable[str]) -> bool:
    """Return whether a recorded value lacks that of a secret."""
    marks = [mark_of(name) for name in names]
    if isinstance(value, str):
        return any(mark in value for mark in marks)
    if isinstance(value, Mapping):
        return any(has_masked(one, names) for pair in value.items() for one in pair)
    return isinstance(value, list | tuple) and any(has_masked(one, names) for one in value)


def _names(planned: Sequence[PlannedOutput]) -> Iterable[str]:
    for output in planned:
        yield from _FIELD.findall(output.pattern or "")
        if output.name:
            yield output.name
    for output in planned:
        yield from (metric.name for metric in output.metrics)


def _not_finite(value: Any, path: str) -> Iterable[tuple[str, str]]:
    """Yield (path, text) of every number that JSON does not have; the path as in RFC 6901."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, str(value)
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from _not_finite(member, f"{path}/{_quoted(str(key))}")
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            yield from _not_finite(member, f"{path}/{index}")


def _quoted(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _unquoted(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")


def _put(value: Any, steps: Sequence[str], text: Any) -> None:
    """Put a number in the place that a path names; a file that was changed is left as it is."""
    *before, last = steps or ("",)
    try:
        for step in before:
            value = value[int(step)] if isinstance(value, list) else value[step]
        number = float(text)
        if isinstance(value, list):
            value[int(last)] = number
        elif last in value:
            value[last] = number
    except (LookupError, TypeError, ValueError):
        return


def block_values(task: PlannedTask) -> dict[str, Any] | None:
    """Return the outputs of the block that ran in a task's place; None for another task, and before the block has ended."""
    return None if task.block is None else task.block.outputs
