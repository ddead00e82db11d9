"""Ends the process trees of ranks: signals every member, waits for all by descriptor, scans again, until none is left.

The orders of one pass of the loop are served by a single scan, so that stopping a thousand ranks at once
costs one. When to signal, and with what, is decided in `core.stop_sequence`.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable, Collection, Mapping
from functools import partial

from msgspec import Struct, field

from protocol.ids import RankId
from protocol.machine.procfs import descendants, is_living, name_of, oldest_first, session_of
from sflow_agent.core.events import AgentEvent, TreeGone, TreeSurvived
from sflow_agent.core.rank_index import RankTimers
from sflow_agent.descriptors import Descriptors
from sflow_agent.processes.cleanup import Cleanups
from sflow_agent.processes.syscalls import open_pidfd
from sflow_agent.processes.tree import StepMarks, tree_members

RESCAN_S = 0.05
"""The delay if a member cannot be watched (no descriptors left), or the main process is about to be reaped."""
SRUN_WITHIN_S = 2.0
"""The time that `srun` has after SIGTERM; less than what a rank has to be gone after SIGKILL."""


MAX_LEFT = 3
"""Processes that are named."""


class TreeKill(Struct):
    """A tree that is being ended."""

    signal: int
    """0 sends nothing: the tree ends by other means."""
    watched: dict[int, int] = field(default_factory=dict)
    """Descriptor to pid of the members that must end before the tree is scanned again."""
    signalled: set[int] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    """The first members that have outlived the main process."""
    srun_signal: int = 0
    """The signal of the order for which `srun` has got one, if any."""
    has_met_step: bool = False
    """Processes of its step were seen here."""
    awaits_step: bool = False
    """The processes of its step are not here; they may be about to start."""

    @property
    def needs_rescan(self) -> bool:
        """Return whether the tree must be looked at again before a watched member ends."""
        return not self.watched or self.awaits_step


class TreeKiller:
    """Ends process trees.

    `main_of` and `running` are the owner's own maps of main processes, `checks_of` that of the unreaped
    programs of probes: processes that those leave behind appear when they are reaped.
    """

    def __init__(
        self,
        descriptors: Descriptors,
        main_of: Mapping[RankId, int],
        running: Mapping[int, RankId],
        cleanups: Cleanups,
        checks_of: Mapping[RankId, Collection[int]],
        forget: Callable[[RankId], None],
        marks: Mapping[int, int],
        steps: StepMarks,
    ) -> None:
        self._marks = marks
        self._steps = steps
        self._descriptors = descriptors
        self._main_of = main_of
        self._running = running
        self._cleanups = cleanups
        self._checks_of = checks_of
        self._forget = forget
        self._me = os.getpid()
        self.clients: set[RankId] = set()
        """Ranks whose main process is the client of another machine's container engine: it passes signals on, over a
        connection that its children may hold, so those get only SIGKILL."""
        self._endings: dict[RankId, TreeKill] = {}
        self._unsettled: set[RankId] = set()
        """Those of them that must be looked at again before a watched member ends."""
        self._srun_kills = RankTimers()
        """When the `srun` of a job step gets SIGKILL: after SIGTERM it has Slurm end the step everywhere."""
        self._next_rescan = 0.0
        self.asked: dict[RankId, int] = {}
        """The last signal that an operator has sent to ranks; their diagnosis takes it."""
        self._pending: dict[RankId, None] = {}
        """Trees to scan in this pass, in order."""

    def order(self, rank: RankId, number: int, is_once: bool = False) -> None:
        """Signal all processes of the rank with the next `poll`; a second order escalates. If `is_once`, now and no more."""
        if rank not in self._main_of:
            return
        if is_once:
            self.asked[rank] = number
            self._signal_once(rank, number)
            return
        if rank not in self._endings:
            self._endings[rank] = TreeKill(number)
            self._unsettled.add(rank)
        ending = self._endings[rank]
        ending.signal = number
        if number:
            for descriptor, pid in ending.watched.items():
                # Known members first, by descriptor: one that has cut every tie since is still the rank's.
                if not self._is_spared(rank, pid, number):
                    _signal_descriptor(descriptor, number)
                    ending.signalled.add(pid)
        self._pending[rank] = None

    def _signal_once(self, rank: RankId, number: int) -> None:
        """Signal the processes that the rank has now, parents first; of a job step its `srun`, which passes it on."""
        main = self._main_of.get(rank)
        if main is None or main not in self._running:
            return
        members = {main}
        if rank not in self._steps and rank not in self.clients:
            others = self._running.keys() - {main}
            members |= tree_members({main: str(rank)}, self._me, others, self._marks)[main]
        for pid in oldest_first(members):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        if self._pending:
            return 0.0
        if not self._endings:
            return None
        times = (self._srun_kills.next_at(), self._next_rescan if self._unsettled else None)
        return min((time for time in times if time is not None), default=None)

    def poll(self, now: float) -> list[AgentEvent]:
        """Serve the orders, and look again at trees that may change unseen: a source of the loop."""
        if self._unsettled and now >= self._next_rescan:
            self._next_rescan = now + RESCAN_S
            self._pending.update((rank, None) for rank in sorted(self._unsettled))
        for rank in self._srun_kills.pop_due(now):
            self._signal_srun(rank, self._endings[rank], signal.SIGKILL)
        return self._signal_pending(now)

    def _signal_pending(self, now: float) -> list[AgentEvent]:
        """Signal and watch the members of the pending trees; return TreeGone for those without members."""
        ranks = [rank for rank in self._pending if rank in self._endings]
        self._pending.clear()
        if not ranks:
            return []
        mains = {self._main_of[rank]: rank for rank in ranks}
        others = self._running.keys() - mains.keys()
        trees = tree_members({pid: str(rank) for pid, rank in mains.items()}, self._me, others, self._marks)
        # A process that lost its parent during the walk became the agent's child behind it: two walks must
        # find none.
        seem_empty = {pid: str(rank) for pid, rank in mains.items() if not trees[pid] - {pid}}
        if seem_empty:
            trees |= tree_members(seem_empty, self._me, others, self._marks)
        for rank, pids in self._steps.members(ranks).items():
            trees[self._main_of[rank]] |= pids
            self._begin_with_srun(rank, bool(pids), now)
        events: list[AgentEvent] = []
        for main, members in trees.items():
            rank = mains[main]
            ending = self._endings[rank]
            is_reaped = main not in self._running
            if is_reaped:
                members.discard(main)
                if not members and not ending.watched and rank not in self._checks_of:
                    if self._cleanups.is_unfinished(rank):
                        self._cleanups.begin(rank)
                    if not self._cleanups.is_unfinished(rank):
                        events += self._close(rank, ending, main)
                    continue
            # Parents first: a shell that waits for a child would see it end before it hears that it must end itself.
            for pid in oldest_first(members - set(ending.watched.values())):
                self._signal_and_watch(rank, ending, pid)
        return events

    def _member_ended(self, rank: RankId, descriptor: int) -> None:
        """Scan the rank's tree with the next `poll` if this was its last watched member."""
        ending = self._endings[rank]
        self._unwatch(descriptor)
        del ending.watched[descriptor]
        if not ending.watched:
            self._unsettled.add(rank)
            self._pending[rank] = None

    def look_at(self, rank: RankId) -> None:
        """Scan the rank's tree, if it is being ended, with the next `poll`."""
        if rank in self._endings:
            self._pending[rank] = None

    def has_living_members(self, rank: RankId, main: int) -> bool:
        """Return whether a signalled member, other than the main process, still lives."""
        ending = self._endings.get(rank)
        return ending is not None and any(
            pid != main and not _has_ended(descriptor) for descriptor, pid in ending.watched.items()
        )

    def give_up(self, rank: RankId) -> list[AgentEvent]:
        """Stop waiting for the rank's tree; return the names of the survivors."""
        ending = self._endings.get(rank)
        if ending is None:
            return []
        main = self._main_of[rank]
        others = self._running.keys() - {main}
        left = tree_members({main: str(rank)}, self._me, others, self._marks)[main]
        left |= self._steps.members([rank]).get(rank, set())
        left |= {pid for descriptor, pid in ending.watched.items() if not _has_ended(descriptor)}
        if not left:
            return self._close(rank, ending, main)
        self.drop(rank)
        if main not in self._running:
            self._forget(rank)
        return [TreeSurvived(rank, tuple(name_of(pid) for pid in sorted(left)))]

    def _close(self, rank: RankId, ending: TreeKill, main: int) -> list[AgentEvent]:
        """Finish a tree without processes: all of it is gone, or its cleanup has failed."""
        survivor = self._cleanups.survivor(rank)
        self.drop(rank)
        if main not in self._running:
            self._forget(rank)
        if survivor is not None:
            return [TreeSurvived(rank, (survivor,))]
        return [TreeGone(rank, len(ending.signalled - {main}), tuple(ending.left))]

    def drop(self, rank: RankId) -> None:
        """Stop ending the rank's tree."""
        ending = self._endings.pop(rank, None)
        self._unsettled.discard(rank)
        self._srun_kills.set(rank, None)
        for descriptor in ending.watched if ending is not None else ():
            self._unwatch(descriptor)

    def _unwatch(self, descriptor: int) -> None:
        self._descriptors.remove(descriptor)
        os.close(descriptor)

    # ------------------------------------------------------------------ the srun of a step

    def _is_srun(self, rank: RankId, pid: int) -> bool:
        """Return whether a process is the `srun` of a rank's job step, or its helper: signalled, it has the step killed."""
        return rank in self._steps and session_of(pid) == self._main_of.get(rank)

    def _is_spared(self, rank: RankId, pid: int, number: int) -> bool:
        """Return whether a process of the tree is left without this signal."""
        if rank in self.clients and number != signal.SIGKILL:
            return pid != self._main_of.get(rank)
        return self._is_srun(rank, pid)

    def _begin_with_srun(self, rank: RankId, has_members: bool, now: float) -> None:
        """Signal the `srun` of a step where its processes cannot be: none is here yet, or the grace is over.

        SIGINT makes it give up a step that waits for its start, and has no effect on one that runs elsewhere; SIGTERM
        makes it end the step on all nodes. Source: srun(1) of Slurm 22.05, measured.
        """
        ending = self._endings[rank]
        is_running = self._main_of[rank] in self._running
        ending.awaits_step = (
            is_running and bool(ending.signal) and not has_members and not ending.has_met_step
        )
        (self._unsettled.add if ending.needs_rescan else self._unsettled.discard)(rank)
        ending.has_met_step |= has_members
        if not is_running or not ending.signal or ending.srun_signal == ending.signal:
            return
        if ending.signal == signal.SIGKILL:
            self._srun_kills.set(rank, now + SRUN_WITHIN_S)
            self._signal_srun(rank, ending, signal.SIGTERM)
        elif not has_members:
            self._signal_srun(rank, ending, signal.SIGINT)
        ending.srun_signal = ending.signal

    def _signal_srun(self, rank: RankId, ending: TreeKill, number: int) -> None:
        main = self._main_of[rank]
        ending.signalled.add(main)
        pids = [main] if number != signal.SIGKILL else [main, *descendants(main)]
        for pid in pids if main in self._running else ():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _signal_and_watch(self, rank: RankId, ending: TreeKill, pid: int) -> None:
        is_new = bool(ending.signal) and (pid not in ending.signalled or ending.signal == signal.SIGKILL)
        is_new = is_new and not self._is_spared(rank, pid, ending.signal)
        if is_new:
            ending.signalled.add(pid)
            if len(ending.left) < MAX_LEFT and self._main_of[rank] not in self._running:
                ending.left.append(name_of(pid))
        try:
            descriptor = open_pidfd(pid)
        except ProcessLookupError:
            return
        if descriptor is None:  # signalled by number, looked at again soon
            if is_new and is_living(pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, ending.signal)
                    os.kill(pid, signal.SIGCONT)
            return
        ending.watched[descriptor] = pid
        if not ending.needs_rescan:
            self._unsettled.discard(rank)
        self._descriptors.add(descriptor, select.EPOLLIN, partial(self._member_ended, rank, descriptor))
        if is_new:
            _signal_descriptor(descriptor, ending.signal)


def _signal_descriptor(descriptor: int, number: int) -> None:
    """Send a signal, and SIGCONT: a stopped process must run to be able to obey."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(descriptor, number)
        signal.pidfd_send_signal(descriptor, signal.SIGCONT)


def _has_ended(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))
