"""What a person may do about words of srun that are known. Pure. Only hints come of them: what srun prints decides nothing."""

_KNOWN = (
    (
        ("step creation temporarily disabled", "step creation still disabled", "Requested nodes are busy"),
        "another step of the job holds what this one needs: start that one with --overlap and --mem=0, or end it",
    ),
    (
        ("Invalid generic resource", "Insufficient GRES", "Invalid gres"),
        "this Slurm refuses --gres for the step that starts agents: `step_gres: false` in the site's or user's settings"
        " leaves it out; in a job that asked for GPUs by --gpus, ask for them per node: --gpus-per-node",
    ),
    (
        ("nrecognized option", "nvalid option", "ambiguous option"),
        "is it one of `launch_flags` (`sflow-ctl config show --origin` says where they are from) or --launch-flag?",
    ),
    (
        ("execve()", "No module named sflow_agent"),
        "this installation must be on every node, at the same path; `python` in the settings names another interpreter",
    ),
    (
        ("Invalid job id", "Unable to confirm allocation", "Job/step already completing"),
        "has the job ended? squeue --me says so",
    ),
)
"""(pieces of a message, hint), the more telling first. Source: messages of srun and slurmstepd as users report them."""


def srun_hint(said: str) -> str | None:
    """What to do, if srun has said something that is known."""
    return next((hint for pieces, hint in _KNOWN if any(piece in said for piece in pieces)), None)
