"""The `result` of a task as planned: values that are found in its log by regular expressions, or in a JSON file."""

from typing import Literal

import msgspec

ResultType = Literal["auto", "string", "int", "float", "bool", "json"]


class PlannedResultPattern(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a result."""

    name: str
    regex: str
    type: ResultType = "auto"
    aggregate: str = "last"
    group: str | int | None = None
    """None: the group `value`, else the first group, else the whole match."""
    unit: str | None = None
    is_required: bool = False


class PlannedResult(msgspec.Struct, frozen=True, kw_only=True):
    """Where the values come from: the file if there is one, else the patterns."""

    patterns: tuple[PlannedResultPattern, ...] = ()
    file: str | None = None
    """Relative to the task's directory."""
