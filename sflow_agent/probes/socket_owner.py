"""Finds the process that has a listening socket of this node, and decides whether a check may accept its answer.

The sockets themselves are in `sockets`. Called by `port_watch` and `watcher` for probes, by `port_leases` and
`exit_diagnosis` after failures. A process that cannot be examined is unknown, which is not "no".
"""

import math
import os
import time
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Literal, NamedTuple

from msgspec import Struct

from protocol.ids import RankId
from protocol.machine.marks import ATTEMPT_MARKER, RANK_BITS, RUN_MARKER
from protocol.machine.procfs import (
    all_processes,
    command_line,
    descendants,
    environment,
    has_socket,
    lock_limit,
    name_of,
    parent_of,
    session_of,
    sockets_of,
    step_processes,
    users_of,
)
from protocol.messages.checks import Owner
from protocol.text.lazy_pattern import lazy_pattern
from sflow_agent.limits import run_mark, step_mark
from sflow_agent.probes.sockets import Listener, listening_sockets

OWNER_WITHIN_S = 0.05
"""How long the loop may search for a socket's owner; the newest processes come first, as a server is one of them."""
MAX_ANCESTORS = 50
ASK_AGAIN_S = 0.5
"""The delay after a search that found no process."""
UNKNOWN_OWNER = "its owner cannot be seen, so it counts as the task's"
_STEP_DAEMON = lazy_pattern(rb"slurmstepd: \[(\d+)\.([^\]]+)\]")
"""The name of a job step's daemon. Source: slurmstepd of Slurm 22.05 and 24.11."""


class OwnerScope(Struct, frozen=True):
    """The processes whose answers a check of a rank accepts."""

    rank: RankId
    owner: Owner
    is_in_container: bool = False
    """Started by an engine's daemon: its processes are not below the agent, and may be another user's."""
    is_step: bool = False
    """Started by a separate job step: its processes are below Slurm's daemon."""


class _SocketOwner(Struct, frozen=True):
    """The process that has a listening socket."""

    pid: int | None
    """None while none was found."""
    attempt: str | None
    """The attempt of this run, "" if the process does not show which one; None outside of this run."""
    mark: int | None
    """The mark of a job step of this run."""
    ask_again_at: float


class Judgement(NamedTuple):
    """Whether a check accepts an answer on a port."""

    verdict: Literal["ours", "foreign", "unknown"]
    """"unknown" counts: a server that the agent cannot examine may be the right one."""
    text: str = ""
    """The foreign owner, or why it is unknown, for a person."""

    @property
    def counts(self) -> bool:
        """Return whether the check accepts the answer."""
        return self.verdict != "foreign"


class SocketOwners:
    """The listening sockets of the node with their owners, each searched for once for all probes.

    `marker` is the run's.
    """

    def __init__(self, marker: str) -> None:
        self._marker = f"{RUN_MARKER}={marker}".encode()
        self._marker_text = marker
        self._owners: dict[int, _SocketOwner] = {}

    @cached_property
    def _run_mark(self) -> int:
        return run_mark(self._marker_text)

    def look(self) -> dict[int, tuple[Listener, ...]]:
        """Return the listeners by port. Raises: OSError."""
        sockets = listening_sockets()
        if self._owners:
            present = {one.inode for ones in sockets.values() for one in ones}
            self._owners = {inode: one for inode, one in self._owners.items() if inode in present}
        return sockets

    def judge(
        self, scope: OwnerScope, listeners: Iterable[Listener], mains: Mapping[int, RankId]
    ) -> Judgement:
        """Return whether one of these listeners may answer for the scope. `mains` are the main processes of all ranks."""
        if scope.owner == "any":
            return Judgement("ours")
        result: Judgement | None = None
        for listener in listeners:
            one = self._judge(scope, listener, mains)
            if one.verdict == "ours":
                return one
            if result is None or one.verdict == "unknown":
                result = one
        return result if result is not None else Judgement("ours")

    def _judge(self, scope: OwnerScope, listener: Listener, mains: Mapping[int, RankId]) -> Judgement:
        owner = self._owner(listener.inode, scope, mains)
        if owner.pid is None:
            if scope.is_in_container or scope.is_step or _may_hide(scope, listener, mains):
                return Judgement("unknown", UNKNOWN_OWNER)
            return Judgement("foreign", _sentence("another process", scope.owner, "any"))
        if owner.attempt is None:
            return Judgement("foreign", _sentence(f"process {name_of(owner.pid)}", scope.owner, "any"))
        is_untold = not owner.attempt and (scope.is_in_container or scope.is_step)
        if owner.mark is not None and not owner.attempt:  # it has wiped its environment, which bears a name
            is_untold = owner.mark == step_mark(self._marker_text, str(scope.rank))
        if owner.attempt == str(scope.rank.attempt) or is_untold or scope.owner == "run":
            return Judgement("ours")
        who = f"{owner.attempt or 'another step or container'}, process {name_of(owner.pid)}"
        return Judgement("foreign", _sentence(who, "task", "run"))

    def ports_of(
        self, scope: OwnerScope, sockets: Mapping[int, tuple[Listener, ...]], mains: Mapping[int, RankId]
    ) -> list[Listener]:
        """Return what the processes of the scope's attempt listen on, as far as they are below this agent or of its step."""
        pids = set(_own_processes(scope, mains))
        if scope.is_step:
            mark = step_mark(self._marker_text, str(scope.rank))
            pids |= {pid for pid, one in step_processes(self._run_mark).items() if one == mark}
        held = {inode for pid in pids for inode in sockets_of(pid) or ()}
        return [one for ones in sockets.values() for one in ones if one.inode in held]

    def _owner(self, inode: int, scope: OwnerScope, mains: Mapping[int, RankId]) -> _SocketOwner:
        known = self._owners.get(inode)
        now = time.monotonic()
        if known is None or known.ask_again_at <= now:
            # Its most likely place first: the other ways examine all processes of the node.
            near = _own_processes(scope, mains)
            pid = next((pid for pid in near if has_socket(pid, {inode})), None) or holder_of({inode})
            attempt = self._attempt_of(pid, mains) if pid is not None else None
            mark = lock_limit(pid) if pid is not None else None
            if (
                mark is not None
                and mark > self._run_mark << RANK_BITS
                and mark >> RANK_BITS == self._run_mark
            ):
                attempt = attempt or ""
            else:
                mark = None
            known = _SocketOwner(pid, attempt, mark, math.inf if pid is not None else now + ASK_AGAIN_S)
            self._owners[inode] = known
        return known

    def _attempt_of(self, pid: int, mains: Mapping[int, RankId]) -> str | None:
        """Return the attempt of a process by parentage, session or markers, its own or an ancestor's.

        Not all are below this agent: a job step's processes and a daemon's containers have only the markers.
        A process that has wiped its environment (nginx, redis) is recognised by its step's daemon.
        """
        prefix = f"{ATTEMPT_MARKER}=".encode()
        for _ in range(MAX_ANCESTORS):
            if pid <= 1:
                break
            rank = mains.get(pid) or mains.get(session_of(pid))
            if rank is not None:
                return str(rank.attempt)
            variables = environment(pid)
            if self._marker in variables:
                found = (one[len(prefix) :] for one in variables if one.startswith(prefix))
                return next(found, b"").decode(errors="replace")
            if _is_daemon_of_this_job(pid):
                return ""
            pid = parent_of(pid)
        return None


def _own_processes(scope: OwnerScope, mains: Mapping[int, RankId]) -> Iterable[int]:
    own = (main for main, rank in mains.items() if rank.attempt == scope.rank.attempt)
    return (pid for main in own for pid in (main, *descendants(main)))


def _may_hide(scope: OwnerScope, listener: Listener, mains: Mapping[int, RankId]) -> bool:
    """Return whether a process of the attempt cannot be examined and runs as the socket's user.

    It is undumpable, has capabilities, or is another user's (sudo, setuid): its descriptors are hidden from
    us.
    """
    return any(
        sockets_of(pid) is None and listener.uid in users_of(pid) for pid in _own_processes(scope, mains)
    )


def _is_daemon_of_this_job(pid: int) -> bool:
    job = os.environ.get("SLURM_JOB_ID", "")
    match = _STEP_DAEMON.match(command_line(pid)[0]) if job else None
    return match is not None and match[1].decode() == job


def _sentence(who: str, of: str, enough: str) -> str:
    return f"{who}, which does not belong to this {of} (`owner: {enough}` would accept it)"


# ---------------------------------------------------------------------- descriptors of processes


def owners_of(inodes: Collection[int], pids: Iterable[int]) -> list[int]:
    """Return those of these processes that have one of these sockets."""
    return [pid for pid in pids if has_socket(pid, inodes)]


def holder_of(inodes: Collection[int], within_s: float = OWNER_WITHIN_S) -> int | None:
    """Return a process that has one of these sockets, if one is found within this time."""
    until = time.monotonic() + within_s
    for pid in sorted(all_processes(), reverse=True):  # the newest first
        if time.monotonic() > until:
            break
        if has_socket(pid, inodes):
            return pid
    return None


def owner_text(inodes: Collection[int], within_s: float = OWNER_WITHIN_S) -> str:
    """Return the owner of one of these sockets, for a person."""
    holder = holder_of(inodes, within_s)
    who = "another process" if holder is None else f"process {name_of(holder)}"
    return f"{who}, which does not belong to this task"
