"""What a task waits for."""

from typing import Literal

from sflow_ctl.format.schema.values import Part
from sflow_ctl.plan.words import Until

SLURMS: dict[str, str] = {
    "after": "started",
    "afterok": "completed",
    "afterany": "finished",
    "afternotok": "failed",
}
"""Slurm's words for what a dependency waits for, and ours."""


class Dependency(Part, frozen=True, kw_only=True):
    """Another task, and the state it must have reached."""

    task: str
    """Name of the other task; all its replicas count."""
    until: Until = "available"
    """`available`: ready or completed; `ready`, `started`, `completed`: exactly that; `finished`: ended in any way; `failed`:
    failed for good; `settled`: completed, skipped by a condition, or failed with `on_failure: continue`, or as one of
    several copies of which `success` tolerates that. Slurm's `after`, `afterok`, `afterany` and `afternotok` are
    `started`, `completed`, `finished` and `failed`."""
    cells: Literal["same", "all"] = "same"
    """Of a task in the same sweep: the one of the `same` cell, or those of `all` cells."""
    items: Literal["same", "all"] = "all"
    """Between tasks with `foreach`: the copy for the item at the `same` position, or those of `all` items."""
