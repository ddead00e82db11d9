"""Says for people for which items a task is run, and which block in its place. A part of `task_text.py`."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from protocol.text.counted import counted
from sflow_ctl.plan.model import PlannedTask

_SHOWN = 60


def foreach_facts(task: PlannedTask, copies: int, most: int) -> Iterator[tuple[str, str]]:
    """Yield for which of the items of a list a task is run, if it is. Of more than `most` copies only the first is shown."""
    if task.foreach is not None:
        yield "foreach", _items_text(task, copies, copies <= most)


def block_facts(task: PlannedTask) -> Iterator[tuple[str, str]]:
    """Yield which block runs in place of a task, with which values, and how it is repeated."""
    if task.block is None:
        return
    call = task.block
    given = "".join(f"; {name}: {_shown(value)}" for name, value in call.given.items())
    yield "block", f"{call.block}{given}"
    if call.loop is not None:
        until = "" if call.loop.until is None else f", until {call.loop.until}"
        at_limit = (
            ""
            if call.loop.until is None
            else "; fails then"
            if call.loop.fails_at_limit
            else "; ends well then"
        )
        yield "loop", f"{counted(call.loop.max_iterations, 'iteration')} at most{until}{at_limit}"
        if call.loop.carry:
            yield "carry", ", ".join(f"{name}: {_shown(value)}" for name, value in call.loop.carry.items())


def copies_text(members: Sequence[PlannedTask]) -> str:
    """Return " × 3" for the copies of a task, and " × each item" where the list is not known yet."""
    first = members[0]
    late = None if first.foreach is None or first.item is not None else first.foreach.late
    if late is None:
        return f" × {len(members)}"
    return " × each item" if late.size is None else f" × {late.size}"


def _items_text(task: PlannedTask, copies: int, are_all_shown: bool) -> str:
    """Return "3 items, the first is {"a":1}; 2 at once", or "number 1 of 3 items: {"a":1}"."""
    foreach = task.foreach
    assert foreach is not None
    if task.item is not None and task.item.positions is not None:
        shown, count = _shown(task.item.value), len(task.item.positions)
        at_once = "" if foreach.chunk_parallel == 1 else f", {foreach.chunk_parallel} at once"
        many = f"{counted(copies, 'chunk')} of at most {counted(foreach.chunk or 1, 'item')}{at_once}"
        order = "" if foreach.seed is None else f", in the order of seed {foreach.seed}"
        what = (
            f"number {task.replica_index} of {many}{order}: {counted(count, 'item')}, {shown}"
            if are_all_shown
            else f"{many}{order}, the first has {shown}"
        )
    elif task.item is not None:
        shown = _shown(task.item.value)
        many = counted(copies, "item")
        what = (
            f"number {task.replica_index} of {many}: {shown}"
            if are_all_shown
            else f"{many}, the first is {shown}"
        )
        what += "" if foreach.seed is None else f"; started in the order of seed {foreach.seed}"
    else:
        late = foreach.late
        assert late is not None
        if late.size is not None:
            what = counted(late.size, "item")
        elif late.items == []:
            what = "no item: nothing runs for it"
        else:
            shown = late.items if isinstance(late.items, str) else str(late.items)
            what = f"the items of {shown}, at most {late.max_items}; the plan grows when they are known"
    return what if foreach.max_parallel is None else f"{what}; {foreach.max_parallel} at once"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and "${{" in value else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
