"""What attempts take over from earlier ones, and tasks from each other: checkpoints, outputs and inputs.

Parts of the orders `FindCheckpoint`, `FindOutputs` and `CheckInputs`, and of their answers. The agent looks on the node that has
the files.
"""

from typing import Any, Literal

import msgspec

ResumeKind = Literal["retry", "rerun", "resume"]
"""How an attempt follows an earlier one: a retry, restart or takeover within a run; a rerun; a run that was resumed."""
ChoiceRule = Literal[
    "state_file", "step", "epoch", "only", "best", "path", "start", "none", "ambiguous", "ignored"
]
"""What has decided: the program's pointer, the highest step or epoch, that there is only one, its name, a given path; or why
the attempt begins without any."""


class FileSelection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which of the files that a task has written count, and which one of them."""

    globs: tuple[str, ...] = ("**/*",)
    """Patterns, relative to the directory that is searched."""
    select: str = "latest"
    """`latest`, `best`, or a path or pattern."""
    done_marker: str | None = None
    """The file beside a complete one; `{path}`, `{dir}` and `{name}` stand for parts of its path."""
    step_regex: str | None = None
    """Finds the number in a path, in place of the known words: its group `step`, or its first one."""


class CheckpointRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rules of one task."""

    directory: str
    """Relative to the task's directory."""
    selection: FileSelection = FileSelection()
    state_file: str | None = None
    """The program's own pointer to its newest checkpoint, relative to `directory`."""
    start: str | None = None
    """The absolute path of what the first attempt begins from, and later ones while there is no checkpoint."""
    after: tuple[ResumeKind, ...] = ("retry", "rerun", "resume")
    """Which attempts get a checkpoint."""
    must_exist: bool = False
    """An attempt that should continue, and finds no checkpoint, fails."""
    starts_anew_if_ambiguous: bool = False
    """It begins anew where several checkpoints may be meant; else it fails."""
    variable: str = "RESUME_FROM_CHECKPOINT"
    """The environment variable for the path."""
    argument: str | None = None
    """The option for the path, in `${{ checkpoint.args }}`."""


class CheckpointBase(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person has said about an attempt of a rerun: what is older does not count for it, and for those after it."""

    start: str | None = None
    """The checkpoint that it begins from, absolute or relative to the directory of checkpoints; None for none."""
    ignored_until_ns: int | None = None
    """The newest time of modification, on the file system's clock, of what does not count; None before that is known."""


class CheckpointChoice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt continues from, and why."""

    rule: ChoiceRule
    """What has decided."""
    why: str
    """The sentence, without a subject."""
    path: str = ""
    """The absolute path of a file or directory; empty for a fresh start."""
    step: int | None = None
    """Its step, or its epoch if that is what its name has."""
    others: tuple[str, ...] = ()
    """Other candidates, relative to the directory that was searched; the first of them."""
    other_count: int = 0
    """How many there were."""
    notes: tuple[str, ...] = ()
    """What was passed over, and why."""
    problem: str = ""
    """Why the attempt must not start; empty if it may."""
    hint: str = ""
    """The remedy."""
    newest_ns: int = 0
    """The newest time of modification of all candidates; 0 without any."""


# ---------------------------------------------------------------------- outputs and inputs

ValueType = Literal["int", "float", "str", "bool", "list", "dict", "path", "paths"]
"""Types of values of inputs and outputs: `path` and `paths` are texts that name files, the others those of JSON."""
OutputKind = Literal["file", "files", "dir", "manifest", "metric", "param", "value"]
"""`file` is one of those that match, `files` are all, `dir` is a directory; a `manifest` lists files with their digests; a
`metric` is a number and a `param` any value, read from a file; a `value` is known without one."""
StoreKind = Literal["in_place", "hardlink", "copy", "symlink"]
StageKind = Literal["link", "copy", "local"]
"""A link or a copy in the task's directory; a copy on a disk of the node."""
PATH_KINDS = frozenset[OutputKind]({"file", "files", "dir", "manifest"})
"""Kinds whose value is a path, or a list of paths."""
MAX_FILES = 10_000
"""Files of one output that are recorded one by one."""
DEFAULT_MAX_FILES = 500
MAX_VALUE_BYTES = 256 * 1024
"""Of a value, as JSON, in messages and in the journal; a larger one stays in a file of its own."""
ATTEMPT_MARK = ".sflow_attempt"
"""The file in a task's directory that is written when an attempt starts: what has changed before is not of this attempt."""
GIVEN_VALUES = ".sflow_outputs.json"
"""The file in a task's directory in which its program may put values, by name: one JSON object."""
KEPT = ".sflow_kept"
"""The folder in a task's directory for what `store` keeps, by attempt and name."""


class HandoverPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the parts of a hand-over."""


class BestBy(HandoverPart, frozen=True, kw_only=True):
    """Which file is the best one, by a number that the program has written."""

    path: str
    """The file with the numbers, relative to the task's directory. With `{dir}`, `{name}` or `{path}` each candidate has its own;
    else it has one record for each step."""
    key: str
    """The path of the number in a document, or in each record."""
    mode: Literal["min", "max"] = "min"
    step: str = "step"
    """The key of a record's step."""


class OutputRule(HandoverPart, frozen=True, kw_only=True):
    """One output of a task: where it is found and what must be true of it."""

    name: str
    kind: OutputKind
    selection: FileSelection = FileSelection()
    """Its files: patterns relative to the task's directory, and which one of those that match. A single path is exact."""
    best: BestBy | None = None
    """What decides with `select: best`; None leaves it to names with the word best."""
    json: str | None = None
    """The path of the value in a JSON document; None takes all of it."""
    type: ValueType | None = None
    value: Any = None
    """Of kind `value`."""
    is_required: bool = True
    """A task without it has failed."""
    has_default: bool = False
    default: Any = None
    """Its value where it is missing."""
    max_files: int = DEFAULT_MAX_FILES
    takes_stale: bool = False
    """Files count that are older than the attempt."""
    store: StoreKind = "in_place"
    has_digest: bool = True
    """SHA-256 of its files is computed, and checked where they are used."""

    @property
    def is_given(self) -> bool:
        """Return whether the program gives its value in `GIVEN_VALUES`: no file of its own is named."""
        return self.kind in ("metric", "param") and not self.selection.globs


class RecordedFile(HandoverPart, frozen=True, kw_only=True):
    """A file as it was when its output was recorded."""

    path: str
    """Absolute."""
    bytes: int
    mtime_ns: int
    sha256: str = ""
    """Hexadecimal; empty if it was not computed."""


class FoundOutput(HandoverPart, frozen=True, kw_only=True):
    """What was found for an output of an attempt."""

    name: str
    kind: OutputKind
    path: str = ""
    """The absolute path of a file, a directory or a manifest; of several files of the directory that has them all."""
    value: Any = None
    """Of a metric, a parameter or a value; null too for one that is too large, which is in the file at `path`."""
    files: tuple[RecordedFile, ...] = ()
    """The files that belong to it, in the order of their paths."""
    count: int = 0
    """How many files belong to it; more than are listed only where that is allowed."""
    bytes: int = 0
    """Of all of them."""
    sha256: str = ""
    """Of its only file, or of the list of all with their digests; empty if it was not computed."""
    step: int | None = None
    """The step in its name."""
    why: str = ""
    """Why this one of several, as a sentence without its subject."""
    notes: tuple[str, ...] = ()
    """What was passed over, and why."""
    is_missing: bool = False
    """Nothing was found, and it need not be there."""
    is_default: bool = False
    """Its value is the default of the file."""
    is_large: bool = False
    """Its value is in the file at `path`, as JSON."""
    lacking: tuple[int, ...] = ()
    """Of a list with one entry for each item: the entries that stand for no value."""


class ExpectedFile(HandoverPart, frozen=True, kw_only=True):
    """A file that an attempt is given, as its producer has recorded it."""

    path: str
    bytes: int | None = None
    """None for one that no task has recorded: it must only exist."""
    mtime_ns: int | None = None
    sha256: str = ""


class ValueFile(HandoverPart, frozen=True, kw_only=True):
    """A value that is too large for messages: a file has it as JSON."""

    placeholder: str
    """The text that stands for it in the file with all inputs."""
    path: str
    type: ValueType | None = None
    """Type that it must have."""
    entry: int | None = None
    """Which entry of the list in the file it is; None for all of the file."""


class ExpectedInput(HandoverPart, frozen=True, kw_only=True):
    """An input of an attempt that has files: they must be there, as they were recorded."""

    name: str
    source: str
    """Where it is from, for people: "train.outputs.checkpoint", or a path of the file."""
    path: str = ""
    """The file or directory that is staged; empty for several."""
    files: tuple[ExpectedFile, ...] = ()
    stage: StageKind | None = None
    """How a file of its own is made for the attempt; None uses it where it is."""
    target: str = ""
    """Where that is made; absolute."""
    values: tuple[ValueFile, ...] = ()
    """Of those files, the ones with values that the task is given."""
