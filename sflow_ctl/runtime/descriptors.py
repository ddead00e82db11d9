"""Open files of the controller: as many as it may have for itself, what it was started with for everything it starts.

A run with many nodes needs some for each; the soft limit that a login or Slurm gives (1024, mostly) is too little.
"""

import contextlib
import os
import resource
from collections.abc import Sequence

MOST = 1 << 20
"""Some hard limits are a thousand million, and some libraries size tables by the soft one."""
SPARE = 32
"""Descriptors that are kept for the run itself when all others are taken."""

PER_AGENT, OTHERS = 2, 32
"""Connections of an agent, for orders and for logs, and the least that a run has open besides."""

_inherited = resource.getrlimit(resource.RLIMIT_NOFILE)


def allow_many() -> None:
    """Raise this process's own limit as far as it may."""
    soft, hard = _inherited
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def with_inherited_limit(argv: Sequence[str]) -> tuple[str, ...]:
    """Return a command that starts `argv` with the limit of this process's start: agents pass it on to tasks.

    By a shell: glibc refuses to hand over descriptors whose numbers are over a limit that is lowered here meanwhile, and
    a limit that is set from outside may come too late.
    """
    if resource.getrlimit(resource.RLIMIT_NOFILE) == _inherited:
        return tuple(argv)
    return ("/bin/sh", "-c", 'ulimit -Sn "$0" && exec "$@"', str(_inherited[0]), *argv)


def limit() -> int:
    """Return how many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def too_few(agents: int) -> str | None:
    """Return why a run with so many agents cannot have the connections that it needs; None if it can."""
    needed = PER_AGENT * agents + OTHERS
    if limit() >= needed:
        return None
    who = "an agent needs" if agents == 1 else f"{agents} agents need"
    return f"{who} {needed} open files in the controller, and it may have {limit()}"


def files_in_use() -> str:
    """Return what to do about descriptors that are short."""
    return f"the controller may have {limit()} files open, and they are in use: raise the limit (ulimit -Hn, ulimit -n)"


MORE_FILES = (
    "raise the limit of open files: ulimit -n, as far as ulimit -Hn allows; administrators raise that one, in limits.conf, for "
    "jobs by LimitNOFILE of slurmd"
)


class Reserve:
    """Descriptors that are held for bad times, and a look at how many are left."""

    def __init__(self, held: int = SPARE) -> None:
        self._most_held = held
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._held: list[int] = []
        self.fill()

    def fill(self) -> None:
        """Take what is free, up to as many as are to be held."""
        with contextlib.suppress(OSError):
            while len(self._held) < self._most_held:
                self._held.append(os.dup(self._null))

    def release(self) -> None:
        """Give the descriptors back, to be used."""
        while self._held:
            os.close(self._held.pop())

    def is_short(self) -> bool:
        """Return whether fewer than `SPARE` are free beside those that are held. The lowest free number is always used."""
        try:
            number = os.dup(self._null)
        except OSError:
            return True
        os.close(number)
        return number >= limit() - SPARE

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        self.release()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1
