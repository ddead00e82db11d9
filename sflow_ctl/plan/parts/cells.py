"""What tells copies of a task apart, as the plan has it: a cell of a sweep, and an item of a list; what it says of both."""

from collections.abc import Iterable
from typing import Any

import msgspec

from protocol.messages.handover import ValueType
from sflow_ctl.plan.words import Collect, OnOverflow, Until


class Cell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cell that a task belongs to. Tasks of one cell share one of these."""

    index: int
    """Its position in the order of its sweep, from 0."""
    id: str
    """Its identity: a digest of its values, whatever its position."""
    label: str
    """Its name for people, a part of the names of its tasks."""
    case: str = ""
    """The case that it is of."""
    owner: str = ""
    """The task whose own sweep it is of; empty for the workflow's."""
    values: str = "{}"
    """Its values as JSON, by path."""

    def environment(self, sweep: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return what the cell adds to the environment of a task: its swept variables, and those about the cell."""
        swept = {name: value for name, value in sweep if not name.startswith(("tasks.", "SFLOW_"))}
        return {**swept, **self.variables}

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables about the cell in the environment of its tasks."""
        return {
            "SFLOW_SWEEP_ID": self.id,
            "SFLOW_SWEEP_INDEX": str(self.index),
            "SFLOW_SWEEP_CASE": self.case,
            "SFLOW_SWEEP_LABEL": self.label,
            "SFLOW_SWEEP_VALUES": self.values,
        }


class PlannedSweep(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep of the plan."""

    owner: str = ""
    """The task whose own sweep it is; empty for the workflow's."""
    cells: int
    """How many cells are planned."""
    total: int
    """How many there would be without `max_runs`."""
    axes: tuple[str, ...] = ()
    """The paths of all axes, in the order in which they vary, the last one fastest."""
    on_overflow: OnOverflow = "truncate"
    max_parallel: int | None = None
    """How many cells may run at once; None for as many as there is room for."""
    gpu_budget: int | None = None
    """How many GPUs its tasks may have at once; None for all."""


class ItemPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of what a plan says of items."""


class LateItems(ItemPart, frozen=True, kw_only=True):
    """A list that is known only while the run continues: the task that has it stands for its copies until then."""

    items: Any
    """As written: expressions are evaluated once what the task depends on is there."""
    names: dict[str, object] = {}
    """What they use beside `task`."""
    is_product: bool = False
    """Of a mapping to lists: one item for each combination."""
    max_items: int
    fails_if_empty: bool = False
    waits_for_when: bool = False
    """The task's condition is not about single items: it is decided before the list is asked for, once for all of them."""
    pairs: tuple[tuple[str, Until], ...] = ()
    """The tasks of whose copies each waits for the one at its own position, and how far that must be."""
    size: int | None = None
    """How many items there were, once that is known."""


class PlannedForeach(ItemPart, frozen=True, kw_only=True):
    """How the copies of a task for the items of a list are run. All copies share one."""

    name: str = "item"
    """What expressions call the item."""
    max_parallel: int | None = None
    """How many copies may run at once; None for as many as there is room for."""
    collect: Collect = "gap"
    """What the lists of their outputs have in place of one that is missing."""
    chunk: int | None = None
    """How many items a copy is for; None for one, which is not a list then."""
    chunk_parallel: int = 1
    """How many of them a Python function is called for at once."""
    seed: int | None = None
    """Decides the random order in which the items are run; None for their own."""
    late: LateItems | None = None
    """Of the task that stands for copies whose items are not known yet."""
    is_quick: bool = False
    """What of a copy is evaluated when it starts is nothing but its item, or a part of it."""

    @property
    def has_groups(self) -> bool:
        """Return whether a plan has more for each copy than its item."""
        return self.chunk is not None or self.seed is not None

    def copies(self, items: int) -> int:
        """Return how many copies there are for so many items."""
        return items if self.chunk is None else -(-items // self.chunk)


class PlannedItem(ItemPart, frozen=True, kw_only=True):
    """The item of one copy, whose position is the copy's `replica_index`; or the items of a chunk."""

    value: Any
    """Of a chunk the list of its items."""
    positions: tuple[int, ...] | None = None
    """Of a chunk: the positions of its items in the whole list. None for a single item."""
    turn: int | None = None
    """Its place in the order in which copies start, if that is not their own."""


def item_of(foreach: PlannedForeach | None, group: Any) -> PlannedItem:
    """Return the item of a copy from what a plan has for it: the item; or its turn, with positions and items."""
    if foreach is None or not foreach.has_groups:
        return PlannedItem(value=group)
    turn, positions, values = group
    if foreach.chunk is None:
        return PlannedItem(value=values[0], turn=turn)
    return PlannedItem(value=values, positions=tuple(positions))


class PlannedBlock(ItemPart, frozen=True, kw_only=True):
    """What goes into a block and comes out of it."""

    inputs: dict[str, tuple[ValueType | None, Any]] = {}
    """Type and default of each."""
    outputs: dict[str, Any] = {}
    """As written."""
    names: dict[str, object] = {}
    """What those use beside `task` and `block`."""


class PlannedLoop(ItemPart, frozen=True, kw_only=True):
    """How a block is repeated."""

    max_iterations: int
    until: str | None = None
    """As written; None for all iterations."""
    carry: dict[str, Any] = {}
    """As written."""
    fails_at_limit: bool = True


class BlockCall(ItemPart, frozen=True, kw_only=True):
    """The block that a task stands for, and how far that is."""

    block: str
    given: dict[str, Any] = {}
    """What it is given, as written."""
    loop: PlannedLoop | None = None
    names: dict[str, object] = {}
    """What the expressions of both use beside `task` and `last`."""
    given_names: dict[str, object] = {}
    """Those of them that `given` uses."""
    carry_names: dict[str, object] = {}
    """Those of them that `carry` uses."""
    head: PlannedBlock | None = None
    """What goes into the block and comes out of it: another one makes other work of the task."""
    own_needs: int = 0
    """How many of the task's dependencies are its own: what follows are tasks of the block."""
    iteration: int | None = None
    """The one that is under way, or was the last; None before the first."""
    inputs: dict[str, Any] = {}
    """What that was given."""
    outputs: dict[str, Any] | None = None
    """Of the last one; None before its end."""


class Frame(ItemPart, frozen=True, kw_only=True):
    """The use of a block that a task belongs to."""

    owner: str
    """The task that stands for the block."""
    name: str
    """What the names of its tasks begin with."""
    iteration: int = 0
    inputs: dict[str, Any] = {}


class BlockStep(ItemPart, frozen=True, kw_only=True):
    """What follows for a block: another iteration with these inputs, or its end with these outputs."""

    iteration: int = 0
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] | None = None
    why: str = ""
    """Of an end: as the end of a sentence."""
