"""Jobs that follow one another until a run is done: what each of them does when it begins, and when its run has ended. Pure.

`runtime/slurm/chaining.py` keeps the file of a chain, submits and cancels jobs, and says what has moved.
"""

import msgspec

UNTIL_DONE_JOBS = 100
"""Most jobs of a chain whose number is not limited: one that is never done must end."""
UNCERTAIN = "?"
"""In place of a job's id: it was about to be submitted when the record ended."""


class ChainLink(msgspec.Struct, kw_only=True):
    """One job of a chain."""

    job_id: str
    mark: str
    """The state of the work when it began, as one word that changes when something has moved."""
    follow_up: str = ""
    """The job that was submitted to follow it; empty for none."""


class Chain(msgspec.Struct, kw_only=True):
    """The file of a chain, beside its script. Written by the job that runs."""

    version: int = 1
    cap: int
    """Most jobs that it may have."""
    script: str
    """The batch script of each of its jobs."""
    watched: tuple[str, ...] = ()
    """Patterns of files, relative to the workspace, whose change shows that the work has moved."""
    run: str = ""
    """The run directory, once the first job has begun."""
    links: list[ChainLink] = []
    stopped: str = ""
    """Why no more jobs follow, as a sentence."""


class Beginning(msgspec.Struct, frozen=True):
    """What a job does when it begins."""

    refusal: str = ""
    """Why it does not run anything; empty if it does."""
    submits: bool = False
    """Submit the job that follows it."""
    note: str = ""
    """What to say about what follows."""


def begun(chain: Chain, job_id: str, mark: str) -> Beginning:
    """Add a job to its chain, unless it is in it already; return what it does."""
    known = next((link for link in chain.links if link.job_id == job_id), None)
    if known is not None:  # Slurm has requeued it
        return _of_requeued(known, chain)
    if chain.stopped:
        return Beginning(chain.stopped)
    if len(chain.links) >= chain.cap:
        chain.stopped = f"the chain has had its {chain.cap} jobs"
        return Beginning(chain.stopped)
    if chain.links and chain.links[-1].mark == mark:
        last = chain.links[-1].job_id
        chain.stopped = f"nothing has moved in job {last}: no task has completed, no watched file has changed"
        return Beginning(chain.stopped)
    chain.links.append(ChainLink(job_id=job_id, mark=mark))
    return _follow_up(chain)


def _of_requeued(known: ChainLink, chain: Chain) -> Beginning:
    if known.follow_up == UNCERTAIN:
        return Beginning(note="a job that follows may have been submitted: none is submitted again")
    return Beginning() if known.follow_up or chain.stopped else _follow_up(chain)


def _follow_up(chain: Chain) -> Beginning:
    if len(chain.links) >= chain.cap:
        return Beginning(note=f"this is the last of {chain.cap} jobs")
    return Beginning(submits=True)


def goes_on(outcome: str, reason: str) -> bool:
    """Return whether the job that follows has something to do, by the outcome of the run and the word for its cause.

    It has if the run was cut off: by the end of its job's time, by Slurm, or by lost nodes. A run that failed would fail
    again, and one that a person stopped was meant to end.
    """
    return outcome in ("terminated", "infrastructure") or (outcome == "timeout" and reason == "time_limit")
