"""Items of a list for which a task is run, each in a copy of its own: how the plan has them, and what a copy sees. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from protocol.typed_values import as_json, described
from sflow_ctl.plan.parts.cells import Frame, PlannedForeach, PlannedItem
from sflow_ctl.plan.words import Collect

ITEM_VARIABLE, INDEX_VARIABLE = "SFLOW_ITEM", "SFLOW_ITEM_INDEX"
ITERATION_VARIABLE, PARALLEL_VARIABLE = "SFLOW_ITERATION", "SFLOW_CHUNK_PARALLEL"
MAX_ITEM = 100_000
"""Bytes of an item as JSON: it is one variable of its task, and Linux allows 128 KiB for that."""
MAX_ITEMS = 1_000_000


def grouped(foreach: PlannedForeach, items: Sequence[Any]) -> list[Any]:
    """Return what each copy is for, as plans have it: an item; or its turn, with positions and items, if `foreach` groups them.

    Raises: WrongItemsError for a chunk that is too large for the variable that has it.
    """
    if foreach.chunk is None and foreach.seed is None:
        return list(items)
    order = order_of(len(items), foreach.seed)
    if foreach.chunk is None:
        turns = {position: turn for turn, position in enumerate(order)}
        return [[turns[position], [position], [item]] for position, item in enumerate(items)]
    size, chunks = foreach.chunk, list[Any]()
    for begin in range(0, len(order), size):
        positions = sorted(order[begin : begin + size])
        values = [items[position] for position in positions]
        if (length := len(msgspec.json.encode(values))) > MAX_ITEM:
            what = f"chunk {len(chunks)} has {length} bytes as JSON, and may have {MAX_ITEM}"
            raise WrongItemsError(what, "make chunk smaller, or pass large values in files")
        chunks.append([len(chunks), positions, values])
    return chunks


def ungrouped(items: Iterable[PlannedItem]) -> list[Any]:
    """Return the whole list of which copies have these items, in their order."""
    given = list(items)
    if not given or given[0].positions is None:
        return [one.value for one in given]
    pairs = [pair for one in given for pair in zip(one.positions or (), one.value, strict=True)]
    return [value for _, value in sorted(pairs, key=itemgetter(0))]


def order_of(count: int, seed: int | None) -> Sequence[int]:
    """Return the positions of so many items in the order in which they are run: their own, or the random one of a seed.

    It is the same with every version of Python, and needs no state.
    """
    if seed is None:
        return range(count)

    from hashlib import blake2b  # few lists are shuffled

    def drawn(position: int) -> bytes:
        return blake2b(f"{seed}:{position}".encode(), digest_size=16).digest()

    return sorted(range(count), key=drawn)


def item_views(foreach: PlannedForeach, item: PlannedItem, index: int) -> dict[str, Any]:
    """Return the names that expressions of a copy have for its item; in a chunk both are lists."""
    where = index if item.positions is None else list(item.positions)
    return {foreach.name: item.value, index_name(foreach.name): where}


def single_views(foreach: PlannedForeach, item: PlannedItem) -> Iterator[dict[str, Any]]:
    """Yield these names for each item of a chunk by itself."""
    for position, value in zip(item.positions or (), item.value, strict=True):
        yield {foreach.name: value, index_name(foreach.name): position}


def index_name(name: str) -> str:
    """Return what expressions call the position of an item."""
    return f"{name}_index"


def item_variables(
    item: PlannedItem | None, index: int, frame: Frame | None, foreach: PlannedForeach | None
) -> dict[str, str]:
    """Return the variables of a task about its item, a text as it is, all else as JSON; and about the use of its block."""
    of_block = {} if frame is None else {ITERATION_VARIABLE: str(frame.iteration)}
    if item is None:
        return of_block
    value = item.value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if item.positions is None or foreach is None:
        return {ITEM_VARIABLE: text, INDEX_VARIABLE: str(index), **of_block}
    where, parallel = msgspec.json.encode(item.positions).decode(), str(foreach.chunk_parallel)
    return {ITEM_VARIABLE: text, INDEX_VARIABLE: where, PARALLEL_VARIABLE: parallel, **of_block}


def gathered(values: Sequence[Any], is_there: Sequence[bool], collect: Collect) -> list[Any]:
    """Return the list of an output over all items, as its task says for those that have none."""
    if collect == "drop":
        return [
            {"index": index, "value": value}
            for index, (value, here) in enumerate(zip(values, is_there, strict=True))
            if here
        ]
    return list(values)


class WrongItemsError(ValueError):
    """A value is not a list of items; the text ends a sentence that begins with the task."""

    def __init__(self, text: str, hint: str | None = None, key: str = "") -> None:
        super().__init__(text)
        self.hint = hint
        self.key = key
        """The list of a mapping that is wrong."""


def items_of_value(value: Any, *, is_product: bool, most: int) -> list[Any]:
    """Return the items that an evaluated list, or mapping to lists, gives. Raises: WrongItemsError."""
    if isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(one, list | tuple):
                raise WrongItemsError(f"the items called {key} must be a list, are {described(one)}", key=key)
        try:
            value = combined(value, most) if is_product else zipped(value)
        except ValueError as error:
            raise WrongItemsError(str(error), "product: true makes all combinations of them") from None
    elif not isinstance(value, list | tuple | range):
        hint = "write a list, or an expression that is one"
        raise WrongItemsError(f"its items must be a list, are {described(value)}", hint)
    return checked_items(value, most)


def checked_items(items: Sequence[Any], most: int) -> list[Any]:
    """Return items as JSON has them. Raises: WrongItemsError for too many, or for one that is too large."""
    if len(items) > most:
        hint = "raise max_items if so many are meant: each is a task with a process of its own"
        raise WrongItemsError(f"{len(items)} items are more than its max_items, {most}", hint)
    done = []
    for index, item in enumerate(items):
        problem = ""
        try:
            value = as_json(item)
            size = 0 if isinstance(value, int | float) else len(msgspec.json.encode(value))
            problem = f"has {size} bytes as JSON, and may have {MAX_ITEM}" if size > MAX_ITEM else ""
        except TypeError:
            problem = f"is not a value that JSON has: {described(item)}"
        if problem:
            hint = "pass large values in files, and their paths as items"
            raise WrongItemsError(f"item {index} {problem}", hint)
        done.append(value)
    return done


def zipped(lists: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return one item for each position of lists that are equally long. Raises: ValueError that has their lengths."""
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise ValueError(f"its lists are not equally long: {listed}")
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def combined(lists: Mapping[str, Sequence[Any]], most: int = MAX_ITEMS) -> Sequence[Any]:
    """Return one item for each combination of the members of lists, the last list changing fastest.

    Of more than `most` only their number is right.
    """
    from itertools import product
    from math import prod

    if (count := prod(map(len, lists.values()))) > most:
        return range(count)
    return [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
