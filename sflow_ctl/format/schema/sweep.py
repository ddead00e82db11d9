"""The same work for many values: a sweep of the whole workflow or of one task, and a list of items for one task."""

from collections.abc import Iterator
from typing import Any, Literal

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.schema.values import IntExpr, Part
from sflow_ctl.plan.words import OnOverflow


class SweepCase(Part, frozen=True, kw_only=True):
    """A named group of cells: fixed values, and axes of its own beside the shared ones."""

    name: str
    """Name of the case, first in the names of its cells."""
    set: dict[str, Any] = {}
    """Values that all cells of the case have, by path."""
    axes: dict[str, list[Any]] = {}
    """Axes of this case alone: path to list of values."""


class Sweep(Part, frozen=True, kw_only=True):
    """Cells: each is one combination of a case and a value from every axis.

    A path is the name of a variable, `variables.NAME`, or `tasks.TASK.FIELD`; FIELD begins with `resources`, `timeout`,
    `retries`, `variables` or `checkpoint`.
    """

    axes: dict[str, list[Any]] = {}
    """Axes of all cases: path to list of values, for example `{lr: [0.1, 0.01]}`."""
    cases: list[SweepCase] = []
    """Named cases. Default: one without a name."""
    max_runs: int | None = None
    """Keep so many cells, the first in order. Default: all, at most 100,000."""
    on_overflow: OnOverflow = "truncate"
    """What happens with more cells than `max_runs`: `truncate` keeps the first ones and says so, `error` refuses the file."""
    order: Literal["sorted", "declared"] = "sorted"
    """Order of the axes inside a case, of which the last changes fastest: `sorted` by path, or as `declared`, the shared ones
    first. Cases are in the order of the file."""
    max_parallel: IntExpr | None = None
    """Run at most so many cells at once. Default: as many as there is room for; one, if cells have services with GPUs."""
    gpu_budget: IntExpr | None = None
    """GPUs that tasks of the sweep may have at once. Default: all."""


class BlockLoop(Part, frozen=True, kw_only=True):
    """Run a block again and again, each time with other inputs."""

    max_iterations: IntExpr
    """Largest number of iterations."""
    until: str | None = None
    """Condition on the iteration that has ended, for example `${{ last.outputs.done }}`: if it is true, no other one follows.
    Default: all iterations are run."""
    carry: dict[str, Any] = {}
    """Inputs of the next iteration, from those and the outputs of the last one, for example `{n: ${{ last.inputs.n + 1 }}}`.
    Others stay as they are."""
    at_limit: Literal["fail", "succeed"] = "fail"
    """What it is when the last iteration has ended and `until` is still false."""


class NumberSequence(Part, frozen=True, kw_only=True):
    """Numbers in equal steps. Exactly one of `end` and `count` is given."""

    start: IntExpr = 0
    """First number."""
    end: IntExpr | None = None
    """Last number, which is part of the sequence if a step falls on it."""
    count: IntExpr | None = None
    """How many numbers."""
    step: IntExpr = 1
    """Difference between two numbers; a negative one counts down."""
    format: str | None = None
    """Make texts of the numbers, for example `"%03d"`. Default: they stay numbers."""


class Shuffle(Part, frozen=True, kw_only=True):
    """The order in which items are run."""

    seed: IntExpr = 0
    """Number that decides the order: the same one, for as many items, always gives the same order."""


class Foreach(Part, frozen=True, kw_only=True, rename={"as_": "as"}):
    """The items that a task is run for, each in a copy with its own directory.

    Exactly one of `items`, `sequence`, `count` and `glob` is given.
    """

    items: list[Any] | dict[str, Any] | str | None = None
    """The items: a list, or an expression that is one. An expression with outputs of other tasks is evaluated when these have
    completed, and the run then continues with a copy for each item. A mapping from names to lists makes items with these names:
    the first members of all lists, the second ones, and so on; the lists must be equally long."""
    product: bool = False
    """Of a mapping: one item for each combination of the lists' members, the last list changing fastest."""
    sequence: NumberSequence | None = None
    """Numbers in equal steps, for example `{start: 1, end: 10}`."""
    count: IntExpr | None = None
    """So many items: the numbers from 0 on. It may be an output of another task."""
    glob: str | None = None
    """Files that match this pattern when the run is planned, in the order of their names. A relative pattern is in the
    workspace; the items are absolute paths."""
    as_: str = "item"
    """Name of the item in expressions: `${{ item }}`, `${{ item.key }}`; its position is `${{ item_index }}`, from 0."""
    max_parallel: IntExpr | None = None
    """Run at most so many items at once. Default: as many as there is room for."""
    chunk: IntExpr | None = None
    """Hand so many items to one copy of the task: one process for all of them. `${{ item }}` and `$SFLOW_ITEM` are their list
    then, and each output is a list with one entry for each. A Python function is still called for each item. Default: a copy for
    each item."""
    chunk_parallel: IntExpr = 1
    """Of the items of a chunk, so many calls of a Python function run at once, each in a process of its own."""
    shuffle: Shuffle | None = None
    """Run the items in a random order, which the seed decides: `true`, or `{seed: 7}`. With `chunk`, that also decides which
    items are in one chunk. Lists of outputs are in the order of the items all the same. Default: in their order."""
    max_items: IntExpr = 10_000
    """More items than this are an error. At most 1,000,000."""
    collect: Literal["gap", "drop", "fail"] = "gap"
    """What other tasks get for items without a value, where their list of outputs has one for each item: null (`gap`); a list of
    `{index: ..., value: ...}` of those that have one (`drop`); or they fail (`fail`)."""
    on_empty: Literal["success", "fail"] = "success"
    """What a list without items is: nothing to do, and tasks that depend on this one run with an empty list; or a failure."""

    @property
    def tasks(self) -> list[str]:
        """The tasks that expressions in `items` or `count` name."""
        return tasks_in([self.items, self.count])

    @property
    def is_late(self) -> bool:
        """Whether the list is known only while the run continues: outputs of tasks, or inputs of a block, decide about it."""
        return bool(self.tasks) or any(map(_BLOCK.search, _texts([self.items, self.count])))

    @property
    def has_late_sequence(self) -> bool:
        """Whether such values are in `sequence`, where they cannot be, or in a count beside other text."""
        sequence = self.sequence
        texts = [] if sequence is None else [sequence.start, sequence.end, sequence.count, sequence.step]
        is_late = bool(tasks_in(texts)) or any(map(_BLOCK.search, _texts(texts)))
        return is_late or (self.is_late and self.items is None and self.late_items is None)

    @property
    def late_items(self) -> Any:
        """What is a late list once its expressions are evaluated."""
        count = _WHOLE.fullmatch(str(self.count))
        return (
            self.items if self.items is not None or count is None else f"${{{{ range({count[1].strip()}) }}}}"
        )


def tasks_in(value: Any) -> list[str]:
    """Return the tasks that expressions in a value name."""
    names = (match[1] or match[2] for text in _texts(value) for match in _TASK.finditer(text))
    return list(dict.fromkeys(names))


_BLOCK = lazy_pattern(r"\$\{\{(?:(?!\}\}).)*?(?<![.\w'\"])block(?:\.|\[)")
_WHOLE = lazy_pattern(r"\s*\$\{\{((?:(?!\}\}).)*)\}\}\s*")
_TASK = lazy_pattern(r"(?<![.\w])task(?:\.(\w+)|\[\s*[\"']([^\"']+)[\"']\s*\])")


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts with expressions, at any depth."""
    if isinstance(value, str):
        if "${{" in value:
            yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
