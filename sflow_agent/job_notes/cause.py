"""Why a task's job has ended, as its watcher has noted it. Called by the agent when such a task has failed."""

from collections.abc import Sequence

from protocol.messages.facts import ExitCause
from protocol.messages.jobs import JOB_REASONS
from sflow_agent.core.log_reading import LogExcerpt
from sflow_agent.job_notes.record import RecordFile, said_at_end

_SENTENCES = {
    "job_timeout": (
        "job {id} has reached its time limit",
        "give the backend more `time`, or let the task continue from a checkpoint",
    ),
    "oom": ("job {id} has used more memory than it was given", "give the backend more `mem`"),
    "job_node_failed": ("a node of job {id} has failed", ""),
    "job_preempted": ("job {id} had to make room for another job", ""),
    "job_cancelled": ("job {id} was cancelled, and not by this run", ""),
}


def job_cause(directory: str, pieces: Sequence[LogExcerpt]) -> ExitCause | None:
    """Return the cause if the job of the attempt that wrote this log was ended; `pieces` begin with the log's end.

    The note may be an earlier attempt's: it counts where the log has the line that its watcher prints with it.
    """
    try:
        record = RecordFile(directory).read()
    except (OSError, ValueError):
        return None
    if record is None or record.reason not in JOB_REASONS or not pieces:
        return None
    line = f"sflow: {said_at_end(record)}"
    lines = pieces[0].text().splitlines()
    number = next((at for at in range(len(lines) - 1, -1, -1) if lines[at].strip() == line), None)
    if number is None:
        return None
    text, hint = _SENTENCES[record.reason]
    return ExitCause(
        word=record.reason,
        text=f"{text.format(id=record.id)}: {record.text}",
        hint=hint,
        line=line,
        offset=pieces[0].start_of(number),
    )
