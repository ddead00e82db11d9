"""The values of a task as planned: its `outputs`, and its `result`, which is found by regular expressions or in a JSON file."""

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


STDOUT = "stdout"


class PlannedMetric(msgspec.Struct, frozen=True, kw_only=True):
    """How the values called `name` are combined: their type, and the function that makes one of several."""

    name: str
    type: str | None = None
    aggregate: str | None = None


class PlannedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """A source of values of a completed task. Exactly one of `pattern`, `json` and `csv` is set."""

    pattern: str | None = None
    """A `parse` pattern, applied to each line of the source."""
    json: str | None = None
    """A path into the source, a JSON document; in a log, into each line that is JSON."""
    csv: str | None = None
    """A column of the source."""
    name: str | None = None
    """The name of the value, unless a pattern has named fields."""
    source: str = STDOUT
    """`stdout`, the log; or a file, relative to the task's directory."""
    metrics: tuple[PlannedMetric, ...] = ()
