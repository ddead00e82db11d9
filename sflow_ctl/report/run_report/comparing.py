"""The types of `report RUN RUN2 --json`. `docs/reference/report.md` is generated from them.

Made by `differences.py`, shown by `report/page`.
"""

from typing import Any

from msgspec import Struct

from sflow_ctl.report.run_report.model import VERSION, RunReport


class ConfigurationChange(Struct, frozen=True, kw_only=True):
    """A value that is not the same in two runs."""

    path: str
    """What it is: `variables.MODEL`, `tasks.bench.script`."""
    left: Any
    """In the first run; null if it is not there."""
    right: Any
    """In the second run."""


class TaskComparison(Struct, frozen=True, kw_only=True):
    """One task in two runs."""

    name: str
    """The concrete task."""
    states: tuple[str | None, str | None]
    """Its states; null where a run does not have it."""
    attempts: tuple[int, int]
    """How many attempts were made."""
    ready_after_s: tuple[float | None, float | None]
    """Seconds from the start of its processes until it was ready."""
    ran_s: tuple[float | None, float | None]
    """Its run times."""


class ValueComparison(Struct, frozen=True, kw_only=True):
    """One value of one task in two runs."""

    task: str
    """The concrete task."""
    name: str
    """The value's name."""
    left: Any
    """In the first run; null where it is missing."""
    right: Any
    """In the second run."""
    change: float | None
    """The difference over the first one, for two numbers; null if that is 0."""


class RunComparison(Struct, frozen=True, kw_only=True):
    """`report RUN RUN2 --json`: what differs between two runs."""

    version: int = VERSION
    """The version of this format; it grows when a field changes its meaning."""
    left: RunReport
    """The first run."""
    right: RunReport
    """The second run."""
    configuration: tuple[ConfigurationChange, ...] = ()
    """What differs in the plans, variables, commands and versions."""
    workflow: tuple[str, ...] = ()
    """The difference of the workflow files, as a unified diff."""
    tasks: tuple[TaskComparison, ...] = ()
    """Tasks of either run, those that end otherwise first."""
    values: tuple[ValueComparison, ...] = ()
    """Values of outputs, the greatest changes first."""
