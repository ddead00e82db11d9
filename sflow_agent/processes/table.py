"""The processes of all ranks: starts and reaps them; `tree_killer` ends their trees.

Every child of this agent is a rank's main process or an orphan that it got as subreaper, so one wait loop on
SIGCHLD reaps all, and the remaining processes of an ended rank are among the agent's own children.
"""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from protocol.ids import RankId
from protocol.machine.marks import RANK_MARKER
from protocol.machine.procfs import (
    descendants,
    is_living,
    name_of,
    own_children,
    queue_limit,
    session_of,
    settled_environment,
)
from protocol.messages.rank_spec import RankSpec
from protocol.messages.telemetry import RankUse
from sflow_agent.core.events import (
    AgentEvent,
    ProcessesReaped,
    ProcessExited,
    ProcessFailed,
    ProcessStarted,
)
from sflow_agent.descriptors import Descriptors
from sflow_agent.limits import RankMarks, with_step_mark
from sflow_agent.logs.output import Outputs, open_log_of
from sflow_agent.node.memory_events import MemoryEvents
from sflow_agent.processes.cleanup import Cleanups
from sflow_agent.processes.containers import Containers
from sflow_agent.processes.signals import Signals
from sflow_agent.processes.spawn import Spawner, SpawnError
from sflow_agent.processes.tree import StepMarks
from sflow_agent.processes.tree_killer import TreeKiller

LAST_ACT_S = 5.0
_MARKER_PREFIX = f"{RANK_MARKER}=".encode()


class Processes:
    """Ranks as processes."""

    def __init__(
        self,
        spawner: Spawner,
        containers: Containers,
        cleanups: Cleanups,
        descriptors: Descriptors,
        signals: Signals,
        memory: MemoryEvents,
        outputs: Outputs,
        steps: StepMarks,
    ) -> None:
        self._spawner = spawner
        self._containers = containers
        self._cleanups = cleanups
        self._signals = signals
        self._memory = memory
        self._outputs = outputs
        self._me = os.getpid()
        self._is_in_job = "SLURM_JOB_ID" in os.environ
        self._running: dict[int, RankId] = {}
        """Main processes not reaped yet."""
        self._main_of: dict[RankId, int] = {}
        """Main process of every rank that is not gone; the pid may be reused once it is reaped."""
        self._rank_of_session: dict[int, RankId] = {}
        self._rank_of_marker: dict[str, RankId] = {}
        self._main_of_mark: dict[int, int] = {}
        """Main process by the limit that all its processes inherit."""
        self._mark_of_main: dict[int, int] = {}
        self._marks, self._parts = RankMarks(), 0
        self._logs: dict[RankId, str] = {}
        self._owner_of_orphan: dict[int, RankId] = {}
        """A cache: the environment of an orphan is read once, not at every exit."""
        self._checks: dict[int, tuple[RankId, Callable[[int | None, int | None], None]]] = {}
        """Unreaped programs beside ranks, started for probes and stops, with their callbacks."""
        self._checks_of: dict[RankId, set[int]] = {}
        self._gone: list[RankId] = []
        """Ranks of which nothing is left, and whose exit may still have to be sent."""
        self._helpers: dict[int, Callable[[int | None, int | None], None]] = {}
        """Unreaped programs of the agent's own, with their callbacks."""
        self._steps = steps
        self.use_of: Callable[[RankId, resource.struct_rusage], RankUse] | None = None
        """Returns what a rank used, given the kernel's account of its main process; None where nothing is measured."""
        self.find_port_conflict: Callable[[RankId], str] = lambda _rank: ""
        """Returns which port of a failed rank's task another process has, and which process; empty if none has."""
        self.trees = TreeKiller(
            descriptors,
            self._main_of,
            self._running,
            cleanups,
            self._checks_of,
            self._forget,
            self._main_of_mark,
            steps,
        )

    def start(self, spec: RankSpec) -> AgentEvent:
        """Start the rank's process."""
        ordered, kills = spec, self._memory.kills()
        files: tuple[int, ...] = ()
        try:
            self._spawner.require(spec)
            if spec.bootstrap is not None:
                spec, files = self._spawner.environments.prepare(spec, spec.bootstrap)
            # The engine ends the processes in a container: a signal to its monitor would lose the exit
            # status.
            mark = self._marks.next(self._main_of_mark) if spec.container is None else None
            if spec.container is not None:
                if spec.container.is_elsewhere:
                    self.trees.clients.add(spec.rank)
                spec, cleanup = self._containers.prepare(spec, spec.container)
                if cleanup is not None:
                    self._cleanups.expect(spec.rank, cleanup)
            if spec.launch_kind == "step":
                spec = self._marked_step(spec)
            if spec.earlier_log is not None:
                self._outputs.superseded(self._spawner.log_path(spec.log))
            pid, started_at_ns = self._spawner.spawn(spec, partial(self._open_output, spec), mark, files)
        except SpawnError as error:
            self._steps.forget(spec.rank)
            self._cleanups.forget(spec.rank)
            self.trees.clients.discard(spec.rank)
            self._outputs.discard(spec.rank)
            return ProcessFailed(spec.rank, error.errno, error.reason)
        self._running[pid] = self._rank_of_session[pid] = self._rank_of_marker[str(spec.rank)] = spec.rank
        self._main_of[spec.rank] = pid
        if mark is not None:
            self._main_of_mark[mark], self._mark_of_main[pid] = pid, mark
        self._logs[spec.rank] = self._spawner.log_path(spec.log)
        return ProcessStarted(spec.rank, pid, started_at_ns, ordered, kills)

    def _marked_step(self, spec: RankSpec) -> RankSpec:
        """Return a step whose script, the last argument of its `srun`, marks its processes."""
        mark = self._steps.add(spec.rank, spec.rank)
        *before, script = spec.argv
        return msgspec.structs.replace(spec, argv=(*before, with_step_mark(script, mark)))

    def adopt_step(self, part: RankId, mark_of: RankId | None) -> None:
        """Let `trees` end what a job step, whose `srun` another agent has, has on this node."""
        self._parts += 1
        self._main_of[part] = -self._parts  # there is no main process here
        self._steps.add(part, mark_of)

    def _open_output(self, spec: RankSpec, log: str) -> int | None:
        """Return the descriptor that the rank prints to; None is its log. Raises: OSError."""
        if spec.is_log_direct:
            os.close(open_log_of(log))
            return None
        return self._outputs.open(spec.rank, log, time.monotonic())

    def mask_output(self, values: tuple[tuple[str, str], ...]) -> None:
        """Mask these values, (name, value), in what ranks print from now on."""
        from protocol.text.masking import Mask  # few runs have secrets

        mask = Mask(values)
        self._outputs.use_mask(mask if mask else None)

    def start_check(
        self,
        spec: RankSpec,
        argv: tuple[str, ...],
        output: int,
        ended: Callable[[int | None, int | None], None],
    ) -> int:
        """Start a program beside a rank; its pid is its own group's. Raises: SpawnError.

        It belongs to the rank's tree, so it never outlives the rank.
        """
        main = self._main_of.get(spec.rank)
        if spec.rank in self._steps:  # `srun` is not what a command should signal
            main = self._steps.first_process(spec.rank) or main
        pid = self._spawner.spawn_check(spec, argv, output, main)
        self._checks[pid] = spec.rank, ended
        self._checks_of.setdefault(spec.rank, set()).add(pid)
        return pid

    def start_helper(
        self,
        argv: tuple[str, ...],
        request: int,
        output: int,
        errors: int,
        ended: Callable[[int | None, int | None], None],
    ) -> int:
        """Start a program that belongs to no rank; `ended` is called with its status or signal. Raises: OSError."""
        pid = self._spawner.spawn_helper(argv, request, output, errors)
        self._helpers[pid] = ended
        return pid

    def step_marks(self) -> dict[int, RankId]:
        """Return the ranks that are job steps, by the marks of their processes."""
        return self._steps.by_mark()

    @property
    def mains(self) -> Mapping[int, RankId]:
        """Return the main processes that run."""
        return self._running

    def next_wakeup(self) -> float | None:
        """Return 0 when `poll` is due."""
        return 0.0 if self._signals.has_child_ended else None

    def poll(self, _now: float, /) -> list[AgentEvent]:
        """Reap the children that have ended; return the exits of ranks: a source of the loop."""
        if not self._signals.has_child_ended:
            return []
        self._signals.has_child_ended = False
        exits = self.reap()
        return [ProcessesReaped(tuple(exits), self._memory.kills())] if exits else []

    def reap(self) -> list[ProcessExited]:
        """Reap everything that has ended since the last call; never block."""
        ended: list[tuple[RankId, int | None, int | None, RankUse | None]] = []
        has_children = True
        while True:
            try:
                pid, status, used = os.wait3(os.WNOHANG)
            except ChildProcessError:
                has_children = False
                break
            if pid == 0:
                break
            self._owner_of_orphan.pop(pid, None)
            has_exited = os.WIFEXITED(status)
            number = os.WEXITSTATUS(status) if has_exited else os.WTERMSIG(status)
            how = (number, None) if has_exited else (None, number)
            rank = self._running.pop(pid, None)
            if rank is not None:
                use = None if self.use_of is None else self.use_of(rank, used)
                ended.append((rank, *how, use))
            elif pid in self._checks:
                self._check_ended(pid, *how)
            elif (helper := self._helpers.pop(pid, None)) is not None:
                helper(*how)
            else:
                cleaned = self._cleanups.reaped(pid, number)
                if cleaned is not None:
                    self.trees.look_at(cleaned)
        if not ended:
            return []
        owners = self._owners_of_orphans() if has_children else None
        return [self._exited(*end, owners) for end in ended]

    def forget_gone(self) -> None:
        """Drop what is known of ranks of which nothing is left; to be called once their exits are sent."""
        for rank in self._gone:
            self.trees.drop(rank)
            self._forget(rank)
        self._gone.clear()

    def end_everything(self) -> list[str]:
        """Kill everything below this agent at its own end; name the survivors."""
        deadline = time.monotonic() + LAST_ACT_S
        while True:
            self.reap()
            left = [pid for pid in descendants(self._me) if is_living(pid)]
            if self._is_in_job:
                left += self._steps.all_left()
            if not left or time.monotonic() > deadline:
                return [name_of(pid) for pid in left]
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    # ------------------------------------------------------------------ after the main process

    def _exited(
        self,
        rank: RankId,
        exit_code: int | None,
        number: int | None,
        use: RankUse | None,
        owners: set[RankId] | None,
    ) -> ProcessExited:
        """Return the exit of a rank. `owners` are the ranks whose processes this agent has as children; None if it has none."""
        lost_output = self._outputs.drain(rank)
        try:
            size = os.stat(self._logs[rank]).st_size  # noqa: PTH116 - hot path
        except OSError:
            size = 0
        main = self._main_of[rank]
        # As subreaper the agent is above everything that its ranks have started: without children there is nothing left.
        has_leftovers = (
            (owners is not None and (rank in owners or rank in self._checks_of or _group_exists(main)))
            or self.trees.has_living_members(rank, main)
            or self._cleanups.is_unfinished(rank)
            or (rank in self._steps and bool(self._steps.members([rank]).get(rank)))
        )
        if not has_leftovers:
            self._gone.append(rank)
        conflict = self.find_port_conflict(rank) if exit_code != 0 else ""
        return ProcessExited(rank, exit_code, number, size, has_leftovers, conflict, lost_output, use)

    def _check_ended(self, pid: int, exit_status: int | None, number: int | None) -> None:
        rank, ended = self._checks.pop(pid)
        self._checks_of[rank].discard(pid)
        if not self._checks_of[rank]:
            del self._checks_of[rank]
        # The processes that it started are children of this agent by now.
        self.trees.look_at(rank)
        ended(exit_status, number)

    def _owners_of_orphans(self) -> set[RankId]:
        """Return the ranks of orphans that are now children of this agent."""
        owners = set()
        for pid in own_children(self._me):
            if pid in self._running:
                continue
            owner = self._owner_of_orphan.get(pid)
            if owner is None and (owner := self._find_owner(pid)) is not None:
                self._owner_of_orphan[pid] = owner
            if owner is not None:
                owners.add(owner)
        return owners

    def _find_owner(self, pid: int) -> RankId | None:
        by_session = self._rank_of_session.get(session_of(pid))
        if by_session is not None:
            return by_session
        for variable in settled_environment(pid):
            if variable.startswith(_MARKER_PREFIX):
                marker = variable[len(_MARKER_PREFIX) :].decode(errors="replace")
                return self._rank_of_marker.get(marker)
        main = self._main_of_mark.get(queue_limit(pid) or 0)
        return None if main is None else self._rank_of_session.get(main)

    def _forget(self, rank: RankId) -> None:
        main = self._main_of.pop(rank, None)
        self._logs.pop(rank, None)
        self._steps.forget(rank)
        self._cleanups.forget(rank)
        self.trees.clients.discard(rank)
        self._rank_of_marker.pop(str(rank), None)
        if main is not None and self._rank_of_session.get(main) == rank:
            del self._rank_of_session[main]
            self._main_of_mark.pop(self._mark_of_main.pop(main, 0), None)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
