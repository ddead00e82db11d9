"""How many files a process may have open: as many as the system allows for the agent, what it was started with for its tasks.

The soft limit that a login or Slurm gives (1024, mostly) is right for a task, which must find the limits it would have
without us, and too little for an agent that holds a socket for each of a thousand checks.
"""

import contextlib
import resource
from collections.abc import Iterator

MOST = 1 << 20
"""Some hard limits are a thousand million, and some libraries size tables by the soft one."""

_inherited = resource.getrlimit(resource.RLIMIT_NOFILE)


def inherited_limit() -> tuple[int, int]:
    """(soft, hard) as this process was started with them, and as its tasks get them; -1 is none."""
    return _inherited


def allow_many() -> None:
    """Raises this process's own limit as far as it may."""
    soft, hard = _inherited
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def as_inherited() -> Iterator[None]:
    """What is started meanwhile has the limit that this process was started with.

    Setting it in the child would be too late: a program may look at it first thing. Descriptors that are open already
    are not touched by a limit below their number, and posix_spawn needs none but 0, 1 and 2.
    """
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    if own == _inherited:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, _inherited)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, own)
