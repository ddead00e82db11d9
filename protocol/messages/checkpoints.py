"""How the checkpoint is found that an attempt of a task continues from, and what was found."""

from typing import Literal

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
