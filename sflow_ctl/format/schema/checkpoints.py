"""Checkpoints of a task: how the one is found that its next attempt continues from."""

from typing import Annotated, Literal

from sflow_ctl.format.schema.values import ONE, Part


class ResumeChoice(Part, frozen=True, kw_only=True, rename={"start": "from"}):
    """Which attempts continue from a checkpoint, and what happens where none, or not exactly one, is found."""

    after: Annotated[list[Literal["retry", "rerun", "resume"]], ONE] | None = None
    """Which attempts get a checkpoint: those after a `retry` (also a restart, or a start on another node), those of a `rerun`,
    and those of a run that was resumed (`resume`). Default: all of them."""
    none_found: Literal["fresh", "fail"] = "fresh"
    """What an attempt does that finds no checkpoint: begin anew, or fail."""
    ambiguous: Literal["fail", "fresh"] = "fail"
    """What it does where it is not clear which of several is meant: fail with the reason `input_error`, or begin anew."""
    start: str | None = None
    """A file or directory that the first attempt begins from, and later ones while there is no checkpoint of their own. A
    relative one is in the workspace; it must exist."""


class CheckpointInjection(Part, frozen=True, kw_only=True):
    """How the program gets the path of the checkpoint."""

    env: str = "RESUME_FROM_CHECKPOINT"
    """Environment variable for the path. It is empty where an attempt begins anew."""
    arg: str | None = None
    """Option for `${{ checkpoint.args }}`, which is the option and the path, or nothing where an attempt begins anew: for example
    `--resume_from_checkpoint`."""


class Checkpoint(Part, frozen=True, kw_only=True):
    """The checkpoints that a task writes, and how the one is found that its next attempt continues from.

    Only the task's own directory is searched, which all of its attempts share.
    """

    dir: str = "checkpoints"
    """Directory of the checkpoints, in the task's directory; `.` is that itself. The program finds it in `SFLOW_CHECKPOINT_DIR`,
    and makes it."""
    globs: Annotated[list[str], ONE] | None = None
    """Patterns of the files, or of the directories that are checkpoints as a whole; relative to `dir`. Names that end in `.tmp`,
    `.part` or `~` never count. Default: all files, `**/*`."""
    state_file: str | None = None
    """A file in `dir` by which the program itself says which checkpoint is its newest. What it says counts, whatever else is
    there: `{"checkpoint": "PATH", "step": N}`, or the path alone."""
    select: str = "latest"
    """`latest`: that of the highest step, else of the highest epoch; `best`: the latest whose name has the word best, else the
    latest; or a path or pattern in `dir`."""
    done_marker: str | None = None
    """The file that shows that a checkpoint is complete, for example `"{path}.done"` or `"{path}/COMPLETE"`; also `{dir}` and
    `{name}`. Default: files that are empty, or still grow, do not count."""
    step_regex: str | None = None
    """Regular expression that finds the step in a path, as its group `step` or its first one. Default: digits right after `step`,
    `global_step`, `iter`, `iteration`, `checkpoint`, `ckpt` or `epoch`, in the name of the file or of a folder."""
    resume: ResumeChoice | str = "auto"
    """Which attempts continue; a word is short for it: `auto`, `never`, `require` (an attempt that should continue
    and finds none fails), or a path as in `from`."""
    inject: CheckpointInjection | str = "RESUME_FROM_CHECKPOINT"
    """How the program gets the path; a text is the environment variable."""
