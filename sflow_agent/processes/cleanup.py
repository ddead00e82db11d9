"""Runs commands that end what a rank has started outside its process tree: a container of a service such as Docker's.

Each runs once, after the rank's own processes are gone, and its success means that nothing is left. The
guardian runs those that an agent did not reach.
"""

import os
import signal

from msgspec import Struct

from protocol.ids import RankId
from sflow_agent.limits import as_inherited
from sflow_agent.processes.cleanup_list import CleanupList

_ALL_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Cleanup(Struct, frozen=True):
    """A command, the thing it removes (for a person), and its whole environment."""

    what: str
    argv: tuple[str, ...]
    environment: dict[str, str]


class Cleanups:
    """The cleanups of all ranks of this agent, by rank."""

    def __init__(self, shared: CleanupList) -> None:
        self._shared = shared
        self._all: dict[RankId, Cleanup] = {}
        self._running: dict[int, RankId] = {}
        self._outcome: dict[RankId, str | None] = {}
        """The outcome of those that have run: None, or the problem."""

    def expect(self, rank: RankId, cleanup: Cleanup) -> None:
        """Register a cleanup; called before the rank is started. From here on agent or guardian will run it.

        Raises: OSError.
        """
        self._shared.add(str(rank), cleanup.argv, cleanup.environment)
        self._all[rank] = cleanup

    def is_unfinished(self, rank: RankId) -> bool:
        """Return whether the rank's cleanup is still to run, or runs."""
        return rank in self._all and rank not in self._outcome

    def begin(self, rank: RankId) -> None:
        """Start the rank's cleanup unless it runs already."""
        if rank in self._running.values():
            return
        cleanup = self._all[rank]
        try:
            pid = _spawn(cleanup)
        except OSError as error:
            self._outcome[rank] = f"{cleanup.what} ({error.strerror})"
            return
        self._running[pid] = rank

    def reaped(self, pid: int, status: int) -> RankId | None:
        """Take the exit status or signal of a cleanup; return its rank."""
        rank = self._running.pop(pid, None)
        if rank is not None and rank in self._all:
            self._outcome[rank] = None if status == 0 else self._all[rank].what
        return rank

    def survivor(self, rank: RankId) -> str | None:
        """Return what is, or may be, left of the rank: its cleanup has failed or is unfinished."""
        if rank not in self._all:
            return None
        return self._outcome.get(rank, self._all[rank].what)

    def forget(self, rank: RankId) -> None:
        """Drop the cleanup of a rank that is gone, or was never started."""
        if self._all.pop(rank, None) is not None:
            self._shared.remove(str(rank))
            self._outcome.pop(rank, None)


def _spawn(cleanup: Cleanup) -> int:
    program = next(
        (
            path
            for directory in os.get_exec_path(cleanup.environment)
            if os.access(path := f"{directory}/{cleanup.argv[0]}", os.X_OK)
        ),
        cleanup.argv[0],
    )
    with as_inherited():
        return os.posix_spawn(
            program,
            cleanup.argv,
            cleanup.environment,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ),
            setsid=True,
            setsigdef=_ALL_SIGNALS,
            setsigmask=(),
        )
