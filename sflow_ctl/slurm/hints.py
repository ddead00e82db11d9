"""Hints for known messages of srun. Pure. The output of srun is used for hints only, never for a decision."""

_KNOWN = (
    (
        ("step creation temporarily disabled", "step creation still disabled", "Requested nodes are busy"),
        "another step of the job holds what this one needs: start that one with --overlap and --mem=0, or end it",
    ),
    (
        ("Invalid generic resource", "Insufficient GRES", "Invalid gres"),
        "a job that requested GPUs with --gpus may have different numbers on its nodes: request them per node,"
        " --gpus-per-node; if it did, this Slurm refuses --gres for the step that starts agents: `step_gres: false` in"
        " the site's or user's settings leaves it out",
    ),
    (
        ("nrecognized option", "nvalid option", "ambiguous option"),
        "check `launch_flags` (`sflow-ctl config show --origin` shows their source) and --launch-flag",
    ),
    (
        ("execve()", "No module named sflow_agent"),
        "this installation must be on every node, at the same path; `python` in the settings names another interpreter",
    ),
    (
        ("Invalid job id", "Unable to confirm allocation", "Job/step already completing"),
        "the job may have ended: check with squeue --me",
    ),
)
"""(pieces of a message, hint), the more specific first. Source: messages of srun and slurmstepd as users
report them.
"""


_NOISE = ("cluster configuration lacks support for cpu binding",)
"""Messages of `srun` about its options that never explain an end. Source: Slurm 22.05 with TaskPlugin=task/none."""


def telling_lines(said: str) -> str:
    """Return the output of srun without lines that explain nothing, for a person."""
    return "\n".join(line for line in said.splitlines() if not any(noise in line for noise in _NOISE)).strip()


def srun_hint(said: str) -> str | None:
    """Return a hint if the output of srun contains a known message."""
    return next((hint for pieces, hint in _KNOWN if any(piece in said for piece in pieces)), None)
