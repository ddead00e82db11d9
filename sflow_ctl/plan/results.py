"""The values of a task as planned: its `outputs`, its `result`, and its `inputs`, which `parts/inputs.py` resolves."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from protocol.ids import ProbeKey
from protocol.messages.handover import ExpectedFile, FoundOutput, StageKind, ValueFile, ValueType
from sflow_ctl.plan.words import Collect

FoundOf = Mapping[str, Mapping[str, FoundOutput]]
"""What agents have found of outputs, by concrete task and name."""
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


class InputPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the parts of inputs."""


class InputSource(InputPart, frozen=True, kw_only=True):
    """An output of one task, or of all its copies in their order."""

    text: str
    """As it is written: `train.outputs.checkpoint`."""
    tasks: tuple[str, ...]
    """Concrete names."""
    output: str
    is_list: bool = False
    """The value is a list, one for each of `tasks`; null for one that has none."""
    group: str = ""
    """The task as written whose copies for items are meant, in place of `tasks`: how many there are may be known late."""
    pair: str = ""
    """The task as written of whose copies `tasks` has the one for the item at the same position."""
    collect: Collect = "gap"
    """What such a list has in place of values that are missing."""


class PlannedInput(InputPart, frozen=True, kw_only=True):
    """One input of a task."""

    name: str
    variable: str
    sources: tuple[InputSource, ...] = ()
    """The first that there is counts; empty for a path or a value."""
    path: str = ""
    """Absolute; of a file that is not an output."""
    value: Any = None
    """Of one that is known when planning; a text with expressions is evaluated when the task starts."""
    is_deferred: bool = False
    names: dict[str, object] = {}
    """What such a text uses beside `task`."""
    type: ValueType | None = None
    is_required: bool = True
    default: Any = None
    argument: str | None = None
    is_per_item: bool = False
    """In a chunk: its value is a list with one entry for each item, of which `type` and `default` are those of one."""
    stage: StageKind | None = None
    scratch: str = ""
    """With `stage: local`: the directory on the nodes for the files of the run."""


class PlannedWhen(InputPart, frozen=True, kw_only=True):
    """The condition under which a task runs."""

    text: str
    """As it is written."""
    value: bool | None = None
    """Known when planning; None if it is evaluated once the task's dependencies hold."""
    names: dict[str, object] = {}
    """What it uses beside `task` and `inputs`."""
    operands: tuple[str, ...] = ()
    """The values that it is made of, as expressions: `task.check.outputs.score`."""


class ResolvedInput(InputPart, frozen=True, kw_only=True):
    """An input of an attempt with its value."""

    name: str
    value: Any = None
    source: str = ""
    """Where the value is from, for people: "train.outputs.checkpoint", "default", "the file"."""
    is_default: bool = False
    """The output was missing, and the default of the input counts, or that of the output."""
    is_absent: bool = False
    """There is no value, and none is needed."""
    lacking: tuple[int, ...] = ()
    """Of a list with one entry for each item of a chunk: those that have no value."""
    large: tuple[ValueFile, ...] = ()
    """Values that are too large for messages; `value` has placeholders for them."""
    files: tuple[ExpectedFile, ...] = ()
    """What the agent must find before the attempt starts."""
    sha256: str = ""
    """Of its output, if that has one."""


class DeferredPort(msgspec.Struct, frozen=True, kw_only=True):
    """The port of a `TcpCheck` that is known only when its task starts."""

    key: ProbeKey
    text: str
    """Contains placeholders of `DeferredExpression`s."""


class PlannedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is written when its task starts, relative to the task's directory."""

    path: str
    content: str
    mode: int
    names: dict[str, object] | None = None
    """The values that the template `content` uses at the task's start; None if the content is final."""
    uses_ports: tuple[str, ...] = ()
    """Tasks whose ports it uses, as in `DeferredExpression`."""
