"""Checks the options that a site adds to the one `srun` that starts agents: none may turn it into something else.

Pure.
"""

from protocol.text.lazy_pattern import lazy_pattern

_FLAG = lazy_pattern(r"--(?P<name>[a-z][a-z0-9-]*)(?:=(?P<value>\S.*))?")
_OURS = (
    (
        "the step has one agent on each node of the job",
        "jobid nodes nodelist nodefile exclude relative distribution ntasks ntasks-per-node ntasks-per-core ntasks-per-gpu"
        " ntasks-per-socket ntasks-per-tres multi-prog het-group spread-job use-min-nodes contiguous",
    ),
    (
        "it starts at once, beside other steps of the job",
        "overlap exclusive exact immediate begin dependency",
    ),
    (
        "each agent ends by itself",
        "wait kill-on-bad-exit time time-min deadline signal no-kill",
    ),
    ("agents share their nodes with all tasks", "mem mem-per-cpu mem-per-gpu cpu-bind"),
    ("agents are not MPI programs and have no terminal", "mpi external-launcher interactive pty x11"),
    ("the output of agents is quoted when they fail", "input output error label unbuffered open-mode"),
    ("agents get their configuration in the environment", "export export-file get-user-env"),
    ("agents run on the host, and start containers themselves", "container container-image container-name"),
    (
        "agents would not start as the run needs them",
        "chdir bcast uid gid test-only help version quit-on-interrupt disable-status",
    ),
)
"""Reasons, each with the options that it excludes.

Source: srun(1), and docs/decisions/slurm.md, "The one srun".
"""
_HIDE_GPUS = frozenset(("gres=none", "gres=gpu:0", "gpus=0", "gpus-per-node=0", "gpus-per-task=0"))


def flag_problem(flag: str) -> tuple[str, str] | None:
    """Return (reason, remedy) for a flag that cannot be added, None for one that can."""
    match = _FLAG.fullmatch(flag)
    if match is None:
        return (
            "is not of the form --key=value",
            "write write one item for each option: its long name, = and the value",
        )
    for reason, names in _OURS:
        # srun takes any unambiguous beginning of an option's name
        if any(name.startswith(match["name"]) for name in names.split()):
            return f"would break the one step that starts agents: {reason}", "leave it out"
    if match["value"] is None:
        return "has no value, so srun would use the next word", f"--{match['name']}=VALUE"
    if flag.removeprefix("--") in _HIDE_GPUS:
        return "hides the job's GPUs from its tasks", "leave it out"
    return None
