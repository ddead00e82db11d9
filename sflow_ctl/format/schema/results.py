"""Conditions on a task's results, and the values that are read from them."""

from typing import Annotated, Any, Literal

from sflow_ctl.format.schema.values import ONE, Flag, IntExpr, Part


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
    min_count: IntExpr | None = None
    """Of a task with copies (`replicas`, `sweep`): so many must complete, and failures of others do not count. With `min_ratio`
    both must hold. Default: all."""
    min_ratio: float | str | None = None
    """The same as a part of all copies, from 0 to 1, for example `0.9`."""
    when_unreachable: Literal["stop", "finish"] = "stop"
    """What the other copies do once too few can complete; the task's `on_failure` applies then."""
    when_reached: Literal["finish", "stop"] = "finish"
    """What the other copies do once enough have completed. Tasks that depend on this one start when all have ended."""


class Metric(Part, frozen=True, kw_only=True):
    """The meaning of a value of an output."""

    description: str | None = None
    """Text for readers; it has no effect."""
    type: str | None = None
    """Type to convert values to: `int`, `float`, `str` or `bool`. Default: as found."""
    aggregate: str | None = None
    """How several values become one: `first`, `last`, `min`, `max`, `mean`, `median`, `sum`, `count`, `std`, `list`, or a
    percentile such as `p99`. Default: a single value stays itself, several become a list."""


class BestFile(Part, frozen=True, kw_only=True):
    """The number by which `select: best` chooses one of several files."""

    path: str
    """JSON file with the numbers, in the task's directory. With `{dir}`, `{name}` or `{path}` each candidate has its own, for
    example `{dir}/metrics.json`; else it has a record for each step: `{"step": 100, "loss": 0.5}`, as lines or as a list."""
    key: str
    """Path of the number in the document or record, for example `val.loss`."""
    mode: Literal["min", "max"] = "min"
    """Which number is best."""
    step: str = "step"
    """Key of a record's step."""


class Output(Part, frozen=True, kw_only=True):
    """What a completed task hands to others: files, values from files, or values from lines of its log."""

    name: str | None = None
    """Name of the output. Needed for files; of a value the default is the last name of the JSON path, or the column. A pattern's
    fields have their own names."""
    kind: Literal["file", "files", "dir", "manifest", "metric", "param", "value"] | None = None
    """`file`: one of the files that match; `files`: all; `dir`: a directory; `manifest`: a list of files with sizes and digests;
    `metric`: a number, `param`: any value, each read from a file; `value`: what `value` says. Default: `file` with a `path`,
    `param` without one or with `json` too, `value` with a `value`."""
    path: Annotated[list[str], ONE] = []
    """Paths or patterns (`ckpt/**/*.pt`) in the task's directory; a single one needs no list. A `param` or `metric` without one
    is read from the JSON object that the program writes to `$SFLOW_OUTPUTS_FILE`."""
    select: str = "latest"
    """Which of several files a `file` is: `latest`, the highest step in their names; `best`; or a path or pattern."""
    best: BestFile | None = None
    """What decides with `select: best`. Default: the word best in a name."""
    type: Literal["int", "float", "str", "bool", "list", "dict", "path", "paths"] | None = None
    """Type that the value must have. Default: float for a metric, any other one as it is."""
    value: Any = None
    """Value of a `value`: any, also with expressions."""
    required: Flag | None = None
    """Whether the task fails without it. Default: it does, unless the output is `files` or has a default."""
    default: Any = None
    """Value where it is missing; that it was used is recorded."""
    max_files: IntExpr = 500
    """Largest number of files, at most 10000; more are an error."""
    stale: Literal["ignore", "ok"] = "ignore"
    """Whether files count that are older than the attempt."""
    store: Literal["in_place", "hardlink", "copy", "symlink"] = "in_place"
    """How files are kept from later attempts: not at all, or linked or copied into a folder of the attempt. A link that the file
    system refuses becomes a copy."""
    digest: Flag = True
    """Compute SHA-256 of its files, which is checked where they are used. Without it size and time are."""
    pattern: str | None = None
    """Pattern of the `parse` library whose fields name the values, for example `"rate = {rate:f} tok/s"`."""
    json: str | None = None
    """Path into a JSON document: `a.b[0].c`, `runs[*].rate`. In the log, each line that is JSON is a document."""
    csv: str | None = None
    """Name of a column of a CSV file with a header. Needs `source`."""
    source: str = "stdout"
    """Of values with `pattern`, `json` or `csv`: `stdout` for the log, or a file relative to the task's directory."""
    metrics: dict[str, Metric] = {}
    """Type and aggregate of values, by name."""

    @property
    def is_found(self) -> bool:
        """Return whether the agent finds it: all but values from the log, and from a `source`."""
        is_of_lines = self.pattern is not None or self.csv is not None or self.json is not None
        return bool(self.kind or self.path or self.value is not None) or not is_of_lines

    @property
    def found_kind(self) -> Literal["file", "files", "dir", "manifest", "metric", "param", "value"]:
        """Return its kind, also where it is not written."""
        if self.kind is not None:
            return self.kind
        if self.value is not None:
            return "value"
        return "file" if self.path and self.json is None else "param"


class Input(Part, frozen=True, kw_only=True, rename={"source": "from"}):
    """What a task is given: an output of another task, a file, or a value. Exactly one of `from`, `path` and `value`."""

    source: Annotated[list[str], ONE] = []
    """Output of another task, `TASK.outputs.NAME`, which the task then waits for. Of a task with replicas it is a list, in their
    order. Several, with `pick`, are alternatives."""
    path: str | None = None
    """File or directory that must exist on the task's nodes; relative to the workspace."""
    value: Any = None
    """Value; an input that is not a mapping is short for it."""
    type: Literal["int", "float", "str", "bool", "list", "dict", "path", "paths"] | None = None
    """Type that the value must have. Default: any."""
    required: Flag = True
    """Whether the task fails without it. Otherwise it is empty, and null in expressions."""
    default: Any = None
    """Value where the output is missing, or its task was skipped; that it was used is recorded."""
    env: str | None = None
    """Variable with the value. Default: `INPUT_NAME`, in capitals. Lists and mappings are JSON."""
    arg: str | None = None
    """Option for the value in `${{ inputs.args }}`, for example `--ckpt`; left out with the value."""
    stage: Literal["link", "copy", "local"] | None = None
    """Give the task a link to the file, or a copy that it may change, in its own directory; or a copy on a disk of the node
    (`local`), which is removed when the attempt has ended. Default: its path as it is."""
    pick: Literal["first_available"] | None = None
    """Of several `from`: the first one that there is."""
    items: Literal["same", "all"] = "all"
    """From a task with `foreach`, for another one: the value of the item at the `same` position, for which alone it is waited, or
    a list of those of `all` items."""


class WorkflowInput(Part, frozen=True, kw_only=True):
    """A value to give when the workflow is started: `run --input NAME=VALUE`. Expressions have it as `workflow.inputs.NAME`."""

    type: Literal["int", "float", "str", "bool", "list", "dict", "path", "paths"] | None = None
    """Type that the value must have. Default: any."""
    default: Any = None
    """Value where none is given."""
    required: Flag = True
    """Whether the workflow needs a value. Without one it is null in expressions."""
    description: str | None = None
    """Text for readers."""
    value: Any = None
    """The value, as `--input` sets it. A path is relative to the directory where that is typed."""


class WorkflowOutput(Part, frozen=True, kw_only=True, rename={"source": "from"}):
    """A value of the whole run, computed when its tasks have ended. Exactly one of `from` and `value` is given."""

    source: Annotated[list[str], ONE] = []
    """Output of a task, `TASK.outputs.NAME`. Of a task with replicas it is a list, in their order. Several, with `pick`, are
    alternatives."""
    pick: Literal["first_available"] | None = None
    """Of several `from`: the first one that there is."""
    value: Any = None
    """Value, an expression on outputs of tasks; a text that is not a mapping is short for it, `TASK.outputs.NAME` for `from`."""
    type: Literal["int", "float", "str", "bool", "list", "dict", "path", "paths"] | None = None
    """Type that the value must have. Default: any."""
    default: Any = None
    """Value where an output is missing."""
    required: Flag = True
    """Whether the run has failed without it. Otherwise it is null."""
    description: str | None = None
    """Text for readers."""
