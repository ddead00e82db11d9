"""The points of a sweep: how many there are, and each in order. Pure, and lazy: a million are counted without being made.

Total = product of the shared axes x the sum over the cases of the product of their own axes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from sflow_ctl.format import schema
from sflow_ctl.format.sweep_paths import SweepPath, spelled_out

NO_CASE = schema.SweepCase(name="")
"""What stands for the cases of a sweep without any."""


class Point(NamedTuple):
    """One combination of values."""

    case: int
    """The position of its case in the file."""
    values: tuple[tuple[SweepPath, Any], ...]
    """Fixed ones first, then one of each axis, in the order in which the axes vary."""


def cases_of(sweep: schema.Sweep) -> Sequence[schema.SweepCase]:
    """Return the cases, at least one."""
    return sweep.cases or (NO_CASE,)


def axes_of(sweep: schema.Sweep, case: schema.SweepCase) -> dict[SweepPath, list[Any]]:
    """Return the axes of a case in the order in which they vary, the last one fastest."""
    axes: Mapping[str, list[Any]] = {**sweep.axes, **case.axes}
    named = [(spelled_out(path), values) for path, values in axes.items()]
    if sweep.order == "sorted":
        named.sort(key=lambda axis: axis[0].parts)
    return dict(named)


def total(sweep: schema.Sweep) -> int:
    """Return the number of points, without making them."""
    shared = math.prod(map(len, sweep.axes.values()))
    return shared * sum(math.prod(map(len, case.axes.values())) for case in cases_of(sweep))


def points(sweep: schema.Sweep) -> Iterator[Point]:
    """Yield the points in order: cases as written, and inside one the product of its axes."""
    for index, case in enumerate(cases_of(sweep)):
        fixed = tuple((spelled_out(path), value) for path, value in case.set.items())
        axes = axes_of(sweep, case)
        for values in product(*axes.values()):
            yield Point(index, (*fixed, *zip(axes, values, strict=True)))
