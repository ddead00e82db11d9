"""The processes of all ranks: made, reaped, and their trees ended. Turns the core's commands into system calls and back.

Every child of this agent is a rank's main process or an orphan that came to it as subreaper, so one wait loop on SIGCHLD
reaps everything, and what is left of a rank that ended is found among the agent's own children.
"""

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass, field

from protocol.ids import RankId
from protocol.messages import RankSpec
from sflow_agent.core.events import (
    AgentEvent,
    ProcessExited,
    ProcessFailed,
    ProcessStarted,
    TreeGone,
    TreeSurvived,
)
from sflow_agent.runtime.process_tree import (
    ATTEMPT_MARKER,
    children,
    descendants,
    environment,
    name_of,
    session_of,
    tree_members,
)
from sflow_agent.runtime.spawn import Spawner, SpawnError

LAST_ACT_S = 5.0
RESCAN_S = 0.05
"""Only where a member of a tree cannot be watched (no descriptors left)."""


@dataclass(slots=True)
class Ending:
    """A tree that is being ended."""

    signal: int
    watched: set[int] = field(default_factory=set)
    """Descriptors of members that must end before the tree is looked at again."""
    signalled: set[int] = field(default_factory=set)


class Processes:
    """Ranks as processes."""

    def __init__(self, spawner: Spawner, epoll: select.epoll) -> None:
        self._spawner = spawner
        self._epoll = epoll
        self._me = os.getpid()
        self._rank_of: dict[int, RankId] = {}
        """Main processes not reaped yet."""
        self._main_of: dict[RankId, int] = {}
        """Main process of every rank that is not gone; the number may be free again once reaped."""
        self._logs: dict[RankId, str] = {}
        self._endings: dict[RankId, Ending] = {}
        self._rank_of_pidfd: dict[int, RankId] = {}
        self._orphans: dict[int, str] = {}
        """Orphans to the attempt that started them, so each environment is read once."""

    # ------------------------------------------------------------------ starting and reaping

    def start(self, spec: RankSpec) -> AgentEvent:
        """Makes the rank's process."""
        try:
            pid, started_at_ns = self._spawner.spawn(spec)
        except SpawnError as error:
            return ProcessFailed(spec.rank, error.errno, error.reason)
        self._rank_of[pid] = spec.rank
        self._main_of[spec.rank] = pid
        self._logs[spec.rank] = self._spawner.log_path(spec.log)
        return ProcessStarted(spec.rank, pid, started_at_ns)

    def pid_of(self, rank: RankId) -> int | None:
        """The rank's main process while it is not gone."""
        return self._main_of.get(rank)

    def reap(self) -> list[AgentEvent]:
        """Everything that has ended since the last call; never blocks."""
        ended: list[tuple[RankId, int | None, int | None]] = []
        while True:
            try:
                result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                break
            if result is None:
                break
            self._orphans.pop(result.si_pid, None)
            rank = self._rank_of.pop(result.si_pid, None)
            if rank is not None:
                if result.si_code == os.CLD_EXITED:
                    ended.append((rank, result.si_status, None))
                else:
                    ended.append((rank, None, result.si_status))
        if not ended:
            return []
        with_orphans = self._attempts_with_orphans()
        return [self._exited(*end, with_orphans) for end in ended]

    def _exited(
        self, rank: RankId, exit_code: int | None, number: int | None, with_orphans: set[str]
    ) -> ProcessExited:
        try:
            size = os.stat(self._logs[rank]).st_size  # noqa: PTH116 - hot path
        except OSError:
            size = 0
        has_leftovers = str(rank.attempt) in with_orphans or _group_exists(self._main_of[rank])
        if not has_leftovers:
            self._drop_watches(self._endings.pop(rank, None))
            self._forget(rank)
        return ProcessExited(rank, exit_code, number, size, has_leftovers)

    def _attempts_with_orphans(self) -> set[str]:
        """Attempts that left a process which is now a child of this agent."""
        for pid in children(self._me):
            if pid not in self._rank_of and pid not in self._orphans:
                self._orphans[pid] = _attempt_of(pid)
        return set(self._orphans.values())

    # ------------------------------------------------------------------ ending trees

    def end_tree(self, rank: RankId, number: int) -> list[AgentEvent]:
        """Signals everything the rank started; TreeGone comes when nothing is left, perhaps at once."""
        if rank not in self._main_of:
            return []
        earlier = self._endings.pop(rank, None)
        self._drop_watches(earlier)
        self._endings[rank] = Ending(number, signalled=earlier.signalled if earlier is not None else set())
        return self._press((rank,))

    def end_everything(self) -> list[str]:
        """The last act: kills all that is below this agent, whoever started it; names what would not die."""
        deadline = time.monotonic() + LAST_ACT_S
        while True:
            self.reap()
            left = [pid for pid in descendants(self._me) if session_of(pid)[1] not in ("", "Z", "X")]
            if not left or time.monotonic() > deadline:
                return [name_of(pid) for pid in left]
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def members_ended(self, descriptors: list[int]) -> list[AgentEvent]:
        """Watched members have ended: looks at those trees again whose watched members are all gone."""
        again: list[RankId] = []
        for descriptor in descriptors:
            rank = self._rank_of_pidfd.pop(descriptor, None)
            if rank is None:
                continue
            self._epoll.unregister(descriptor)
            os.close(descriptor)
            ending = self._endings[rank]
            ending.watched.discard(descriptor)
            if not ending.watched:
                again.append(rank)
        return self._press(tuple(again)) if again else []

    def look_again(self) -> list[AgentEvent]:
        """Looks at trees without any watch left: their members could not be watched, or only zombies held them."""
        stale = tuple(rank for rank, ending in self._endings.items() if not ending.watched)
        return self._press(stale) if stale else []

    @property
    def needs_look(self) -> bool:
        """True when `look_again` must be called within `RESCAN_S`."""
        return any(not ending.watched for ending in self._endings.values())

    def give_up(self, rank: RankId) -> list[AgentEvent]:
        """Names what could not be ended."""
        if rank not in self._endings:
            return []
        main = self._main_of[rank]
        left = tree_members({main: str(rank.attempt)}, self._me)[main]
        self._drop_watches(self._endings.pop(rank))
        if rank not in self._rank_of.values():
            self._forget(rank)
        if not left:
            return [TreeGone(rank, 0)]
        return [TreeSurvived(rank, tuple(name_of(pid) for pid in sorted(left)))]

    def _press(self, ranks: tuple[RankId, ...]) -> list[AgentEvent]:
        """Signals and watches the members of these trees, all by one scan."""
        events: list[AgentEvent] = []
        mains = {self._main_of[rank]: rank for rank in ranks}
        trees = tree_members({pid: str(rank.attempt) for pid, rank in mains.items()}, self._me)
        below = set(descendants(self._me))
        for main, members in trees.items():
            rank = mains[main]
            ending = self._endings[rank]
            # One that was in the tree once and has since cut every tie is still the rank's.
            members |= {pid for pid in ending.signalled & below if session_of(pid)[1] not in ("", "Z", "X")}
            is_reaped = main not in self._rank_of
            if is_reaped:
                members.discard(main)
            if not members and is_reaped:
                del self._endings[rank]
                self._forget(rank)
                events.append(TreeGone(rank, len(ending.signalled - {main})))
                continue
            for pid in members:
                if pid not in ending.signalled or ending.signal == signal.SIGKILL:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, ending.signal)
                        os.kill(pid, signal.SIGCONT)
                ending.signalled.add(pid)
                self._watch(rank, ending, pid)
        return events

    def _watch(self, rank: RankId, ending: Ending, pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return  # gone already, or no descriptors left: `look_again` serves both
        ending.watched.add(descriptor)
        self._rank_of_pidfd[descriptor] = rank
        self._epoll.register(descriptor, select.EPOLLIN)

    def _drop_watches(self, ending: Ending | None) -> None:
        for descriptor in ending.watched if ending is not None else ():
            del self._rank_of_pidfd[descriptor]
            self._epoll.unregister(descriptor)
            os.close(descriptor)

    def _forget(self, rank: RankId) -> None:
        self._main_of.pop(rank, None)
        self._logs.pop(rank, None)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _attempt_of(pid: int) -> str:
    prefix = f"{ATTEMPT_MARKER}=".encode()
    for variable in environment(pid):
        if variable.startswith(prefix):
            return variable[len(prefix) :].decode(errors="replace")
    return ""
