"""A sweep: the same work for many values, of the whole workflow or of one task."""

from typing import Any, Literal

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
