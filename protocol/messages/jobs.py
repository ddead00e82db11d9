"""A task whose work is done elsewhere: what its watcher is given, in its environment, and the words that both sides share."""

from typing import Any, Literal

import msgspec

JOB_VARIABLE = "SFLOW_JOB"
"""Has the `JobSpec` as JSON; the watcher takes it out of its environment."""
POLL_VARIABLE, CANCEL_VARIABLE, FIND_VARIABLE = "SFLOW_JOB_POLL", "SFLOW_JOB_CANCEL", "SFLOW_JOB_FIND"
"""Have what bash runs for work of kind `commands`; the watcher takes them out of its environment, too."""
JOB_REASONS = frozenset({"job_timeout", "job_cancelled", "job_preempted", "job_node_failed", "oom"})
"""Reasons for which what runs a job ends it."""
JobKind = Literal["slurm", "plugin", "commands"]


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the work of a task is submitted, watched and cancelled."""

    kind: JobKind
    """A job of Slurm of its own, one of a plug-in's backend, or what commands of the file start."""
    name: str = ""
    """Of the job, for people."""
    options: tuple[str, ...] = ()
    """Of `sbatch`, each `--key=value`."""
    plugin: str = ""
    plugin_options: dict[str, Any] = {}
    nodes: int = 1
    gpus_per_node: int = 0
    json: str = ""
    """The path of the word in the JSON that `poll` prints; empty takes the last line as it is."""
    success: tuple[str, ...] = ()
    """Words of `poll` that mean the end, and success."""
    failure: tuple[str, ...] = ()
    """Words that mean the end, and failure."""
    every_s: float = 10.0
    """Time between two looks."""
    lost_after_s: float = 600.0
    """How long looks may fail before the task does."""
