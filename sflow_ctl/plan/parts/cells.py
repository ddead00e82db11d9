"""A cell of a sweep as the plan has it, and what a plan says of its sweep."""

from collections.abc import Iterable

import msgspec

from sflow_ctl.plan.words import OnOverflow


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
