"""Paths of a task's logs, relative to the run directory, and the variables that name a copy's own paths.

Agents write the logs, and all readers of a run use them.
"""


def log_path(task: str) -> str:
    """Return the log of a task's newest attempt."""
    return f"{task}/{task}.log"


def rank_log_path(task: str, rank: int) -> str:
    """Return the log of one of several ranks; `log_path` has the merged log of all of them."""
    return f"{task}/{task}.rank-{rank}.log"


def side_log_path(task: str, purpose: str) -> str:
    """Return the file with the output of a task's stop or hang commands, over all attempts.

    `purpose` is "stop" or "hang".
    """
    return f"{task}/{task}.{purpose}.log"


def earlier_log_path(task: str, attempt: int, rank: int | None = None) -> str:
    """Return the file to which the log of attempt number `attempt` is moved when the next attempt starts."""
    of_rank = "" if rank is None else f".rank-{rank}"
    return f"{task}/{task}.attempt-{attempt}{of_rank}.log"


PROGRESS_FILE = "progress"
"""In a task's directory: where its program says how far it is, in the last line."""


def own_variables(name: str, replica_index: int, run_directory: str) -> dict[str, str]:
    """Return the variables that tell the copies of a task apart."""
    return {
        "SFLOW_REPLICA_INDEX": str(replica_index),
        "SFLOW_TASK_NAME": name,
        "SFLOW_TASK_OUTPUT_DIR": f"{run_directory}/{name}",
        "SFLOW_TASK_RESULT_FILE": f"{run_directory}/{name}/result.json",
        "SFLOW_PROGRESS_FILE": f"{run_directory}/{name}/{PROGRESS_FILE}",
    }
