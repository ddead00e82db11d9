"""A sweep of slurmforge as ours: the same cells in the same order.

slurmforge sorts the axes of a case, shared and own ones together, by their paths. Ours have other paths, so where sorting those
gives another order the axes are written in the old one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sflow_ctl.format.sweep_paths import spelled_out


class Axis(NamedTuple):
    """A swept path: the old one, ours, and the values of ours."""

    old: str
    new: str
    values: list[Any]


class Case(NamedTuple):
    """A case of the old sweep."""

    name: str
    fixed: Mapping[str, Any]
    axes: Sequence[Axis]


class OldSweep(NamedTuple):
    """A sweep as it was written, with our paths."""

    axes: Sequence[Axis]
    cases: Sequence[Case]
    max_runs: int | None = None

    @property
    def cells(self) -> int:
        """How many runs there were."""
        shared = math.prod(len(axis.values) for axis in self.axes)
        own = (
            sum(math.prod(len(axis.values) for axis in case.axes) for case in self.cases) if self.cases else 1
        )
        total = shared * own
        return total if self.max_runs is None else min(total, self.max_runs)


def new_sweep(old: OldSweep) -> dict[str, Any]:
    """Return the `sweep:` of the new file; an empty one for none."""
    if not old.axes and not old.cases:
        return {}
    own = [case.axes for case in old.cases] or [()]
    shared, cases = list(old.axes), [list(axes) for axes in own]
    order = None
    if not all(_is_sorted([*old.axes, *axes]) for axes in own):
        order = "declared"
        if any(_old_order([*old.axes, *axes]) != [*_old_order(old.axes), *_old_order(axes)] for axes in own):
            shared, cases = (
                [],
                [[*old.axes, *axes] for axes in own],
            )  # an own axis varies more slowly than a shared one
    found: dict[str, Any] = {}
    if shared:
        found["axes"] = _written(shared)
    if old.cases:
        found["cases"] = [
            {
                "name": case.name,
                **({"set": dict(case.fixed)} if case.fixed else {}),
                **({"axes": _written(axes)} if axes else {}),
            }
            for case, axes in zip(old.cases, cases, strict=True)
        ]
    if old.max_runs is not None:
        found["max_runs"] = old.max_runs
    if order:
        found["order"] = order
    return found


def _written(axes: Sequence[Axis]) -> dict[str, list[Any]]:
    return {axis.new: axis.values for axis in _old_order(axes)}


def _old_order(axes: Sequence[Axis]) -> list[Axis]:
    return sorted(axes, key=lambda axis: axis.old)


def _is_sorted(axes: Sequence[Axis]) -> bool:
    """Return whether sorting our paths gives the old order."""
    return _old_order(axes) == sorted(axes, key=lambda axis: spelled_out(axis.new).parts)
