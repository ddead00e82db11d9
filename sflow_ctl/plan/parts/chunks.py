"""Copies of a task that are for several items each: what they are given, and where their results belong. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from protocol.messages.handover import ExpectedFile, ValueFile
from protocol.typed_values import WrongTypeError
from sflow_ctl.plan.copies.task_list import kind_of, parts_of
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.parts.cells import PlannedForeach, PlannedItem
from sflow_ctl.plan.parts.inputs import (
    LARGE,
    OutputsOf,
    evaluated,
    expected_files,
    placeholder,
    typed_list,
    typed_value,
    with_placeholders,
)
from sflow_ctl.plan.parts.items import single_views
from sflow_ctl.plan.results import InputSource, PlannedInput, ResolvedInput
from sflow_ctl.plan.task_views import Chunks


def positions_of(tasks: Sequence[PlannedTask], bases: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return the positions of the items of each copy that is for several; `bases` are the tasks that have items."""
    found: dict[str, tuple[int, ...]] = {}
    for part in parts_of(tasks):
        kind = kind_of(part)
        if kind.base in bases and kind.item is not None and kind.item.positions is not None:
            for one in (part,) if isinstance(part, PlannedTask) else part:
                if one.item is not None and one.item.positions is not None and not one.removed_in:
                    found[one.name] = one.item.positions
    return found


def each_evaluated(
    given: PlannedInput,
    foreach: PlannedForeach,
    item: PlannedItem,
    evaluate: Callable[[Mapping[str, Any]], Any],
) -> ResolvedInput:
    """Return an input of a chunk, whose value is a list with that of each item; `evaluate` gets the names for one of them.

    Raises: ExpressionError.
    """
    values = [evaluated(given, partial(evaluate, one)) for one in single_views(foreach, item)]
    return ResolvedInput(
        name=given.name,
        value=[one.value for one in values],
        source="its expression",
        is_default=any(one.is_default for one in values),
        lacking=tuple(index for index, one in enumerate(values) if one.is_absent),
    )


def of_chunks(given: PlannedInput, source: InputSource, outputs: OutputsOf, chunks: Chunks) -> ResolvedInput:
    """Return an input from outputs of copies that are for several items each: of all of them, or of its own partner.

    Raises: ExpressionError.
    """
    place = {position: index for index, position in enumerate(_all_positions(source.tasks, chunks))}
    values: list[Any] = [None] * len(place)
    there = [False] * len(place)
    large: dict[int, ValueFile] = {}
    files: list[ExpectedFile] = []
    for task in source.tasks:
        value, lacking = outputs.get(task, {}).get(source.output), chunks.lacking(task, source.output)
        record = chunks.found.get(task, {}).get(source.output)
        is_large = record is not None and record.is_large
        entries = value if isinstance(value, list) else []
        if record is not None and (is_large or record.files):
            files += expected_files(record)
        for index, position in enumerate(chunks.positions[task]):
            at = place[position]
            there[at] = index not in lacking and (is_large or index < len(entries))
            if is_large and record is not None and there[at]:
                kind = given.type if given.is_per_item or given.type not in ("list", "paths") else None
                values[at] = LARGE
                large[at] = ValueFile(
                    placeholder=placeholder(given, at), path=record.path, type=kind, entry=index
                )
            elif there[at]:
                values[at] = entries[index]
    try:
        if given.is_per_item:
            value = [
                typed_value(one, given.type) if here else given.default
                for one, here in zip(values, there, strict=True)
            ]
        else:
            value = typed_list(given, source, values, there)
    except WrongTypeError as error:
        raise ExpressionError(f'its input "{given.name}", from {source.text}: {error}') from None
    ordered = tuple(large[at] for at in sorted(large))
    without = tuple(index for index, here in enumerate(there) if not here) if given.is_per_item else ()
    return ResolvedInput(
        name=given.name,
        value=with_placeholders(value, ordered),
        source=source.text,
        is_default=bool(without) and given.default is not None,
        lacking=without if given.default is None and given.is_required else (),
        large=ordered,
        files=tuple(files),
    )


def _all_positions(tasks: Sequence[str], chunks: Chunks) -> list[int]:
    return sorted(position for task in tasks for position in chunks.positions[task])
