"""Conditions on a task's results, and the values that are read from them."""

from sflow_ctl.format.schema.values import IntExpr, Part


class SuccessFile(Part, frozen=True, kw_only=True):
    """A file that must exist and its least size."""

    path: str
    """Path in the task's directory, or a pattern (`trace/*.bin`) that at least one file must match."""
    min_bytes: IntExpr = 1
    """Least size in bytes."""


class SuccessJson(Part, frozen=True, kw_only=True):
    """A JSON document and an expression over it that must be true."""

    path: str
    """Path of the document, in the task's directory."""
    where: str
    """Expression over the document's keys, for example `tokens > 0 and errors / requests < 0.05`."""


class Success(Part, frozen=True, kw_only=True):
    """Conditions besides an exit status of 0."""

    files: list[str | SuccessFile] = []
    """Files that must exist and not be empty: paths or patterns in the task's directory."""
    json: SuccessJson | list[SuccessJson] = []
    """JSON documents with expressions that must be true."""
    require: list[str] = []
    """Regular expressions that some line of the log must match, each of them."""
    forbid: list[str] = []
    """Regular expressions that no line of the log may match."""


class Metric(Part, frozen=True, kw_only=True):
    """The meaning of a value of an output."""

    description: str | None = None
    """Text for readers; it has no effect."""
    type: str | None = None
    """Type to convert values to: `int`, `float`, `str` or `bool`. Default: as found."""
    aggregate: str | None = None
    """How several values become one: `first`, `last`, `min`, `max`, `mean`, `median`, `sum`, `count`, `std`, `list`, or a
    percentile such as `p99`. Default: a single value stays itself, several become a list."""


class Output(Part, frozen=True, kw_only=True):
    """Values of a completed task: from lines that match a pattern, a JSON document, or a CSV column."""

    pattern: str | None = None
    """Pattern of the `parse` library whose fields name the values, for example `"rate = {rate:f} tok/s"`."""
    json: str | None = None
    """Path into a JSON document: `a.b[0].c`, `runs[*].rate`. In the log, each line that is JSON is a document."""
    csv: str | None = None
    """Name of a column of a CSV file with a header. Needs `source`."""
    name: str | None = None
    """Name of the value. Default: the last name of the JSON path, or the column. A pattern's fields have their own names."""
    source: str = "stdout"
    """`stdout` for the log, or a file relative to the task's directory."""
    metrics: dict[str, Metric] = {}
    """Type and aggregate of values, by name."""
