"""Limits of processes: open files (the maximum for the agent, the inherited limit for tasks), and marks of ranks and steps.

The soft limit that a login or Slurm gives (1024, mostly) is right for a task, which must have the limits it
would have without us, and too low for an agent with a socket for each of a thousand checks.
"""

import contextlib
import resource
import zlib
from collections.abc import Container

from protocol.machine.marks import MARK_TOP, MARKS, RANK_BITS, RUN_MARKS

MOST = 1 << 20
"""Some hard limits are a thousand million, and some libraries size tables by the soft one."""

_inherited = resource.getrlimit(resource.RLIMIT_NOFILE)
_own = _inherited
"""This process's own limit of open files."""
_inherited_queues = resource.getrlimit(resource.RLIMIT_MSGQUEUE)


def inherited_limit() -> tuple[int, int]:
    """Return (soft, hard) as this process was started with them, and as its tasks get them; -1 is none."""
    return _inherited


def allow_many() -> None:
    """Raise this process's own limit as far as possible."""
    soft, hard = _inherited
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    global _own
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    _own = resource.getrlimit(resource.RLIMIT_NOFILE)


def mark_of(number: int) -> int | None:
    """Return the soft limit that encodes a number, which child processes inherit; None if the limit is too low.

    RLIMIT_MSGQUEUE, because hardly any program changes or needs it: POSIX message queues of a user, 800 KiB
    mostly, of which a mark takes 64 KiB at most. Unlike a variable it survives `env -i`, setproctitle(3) and
    another user.
    """
    _, hard = _inherited_queues
    top = MARK_TOP if hard == resource.RLIM_INFINITY else hard
    return top - 1 - number % MARKS if top >= MARK_TOP else None


class RankMarks:
    """The marks of ranks, in turn."""

    def __init__(self) -> None:
        self._number = 0

    def next(self, taken: Container[int | None]) -> int | None:
        """Return a mark that is not taken; None if ranks cannot be marked."""
        for _ in range(MARKS):
            self._number += 1
            mark = mark_of(self._number)
            if mark not in taken:
                return mark
        return None


class marked:  # noqa: N801 - reads as a function, and a generator takes three times as long at every start
    """Give the processes that are started meanwhile a mark."""

    def __init__(self, mark: int | None) -> None:
        self._mark = mark

    def __enter__(self) -> None:
        if self._mark is not None:
            resource.setrlimit(resource.RLIMIT_MSGQUEUE, (self._mark, _inherited_queues[1]))

    def __exit__(self, *_: object) -> None:
        if self._mark is not None:
            resource.setrlimit(resource.RLIMIT_MSGQUEUE, _inherited_queues)


class as_inherited:  # noqa: N801 - as above
    """Give the processes that are started meanwhile the limit that this process was started with.

    Setting it in the child would be too late: a program may read it at its start. A lower limit does not
    affect open descriptors, and posix_spawn needs none but 0, 1 and 2.
    """

    def __enter__(self) -> None:
        if _own != _inherited:
            resource.setrlimit(resource.RLIMIT_NOFILE, _inherited)

    def __exit__(self, *_: object) -> None:
        if _own != _inherited:
            resource.setrlimit(resource.RLIMIT_NOFILE, _own)


# ---------------------------------------------------------------------- runs and job steps

_LOCKS = 10
"""RLIMIT_LOCKS, which `resource` does not have. Source: Linux, include/uapi/asm-generic/resource.h."""
_RUN_BITS = RUN_MARKS.start.bit_length() - 1


def run_mark(marker: str) -> int:
    """Return the part that the marks of all processes of a run have in common; `marker` is the run's."""
    return RUN_MARKS.start | _digest(marker, _RUN_BITS)


def bear_run_mark(marker: str) -> None:
    """Mark this process, and so all that it starts, as the run's: what neither agent nor guardian can end is found by it."""
    with contextlib.suppress(ValueError, OSError):  # a site may have lowered the limit
        _, hard = resource.getrlimit(_LOCKS)
        resource.setrlimit(_LOCKS, (run_mark(marker) << RANK_BITS, hard))


def step_mark(marker: str, rank: str) -> int:
    """Return the soft limit of file locks that all processes of a job step have on every node, as its script sets it.

    Slurm starts them, so that they are below no agent, and a daemon that has wiped its environment has nothing else that
    says whose it is. RLIMIT_LOCKS, because Linux has not looked at it since 2.4.25, and Slurm does not set it.
    Source: getrlimit(2).
    """
    return (run_mark(marker) << RANK_BITS) | max(1, _digest(f"{marker} {rank}", RANK_BITS))


def with_step_mark(script: str, mark: int) -> str:
    """Return a step's script for bash that marks its process first, on its first line, so that lines count as in the file."""
    return f"ulimit -S -x {mark} 2>/dev/null; {script}"


def _digest(text: str, bits: int) -> int:
    return zlib.crc32(text.encode()) & ((1 << bits) - 1)
