"""The guardian: the agent's parent, which ends every task when the agent is killed, and starts another one.

Imports as little as possible. Both are child subreapers, so all processes of the agent's tasks become
children of the guardian when the agent dies. The agent, in turn, watches the guardian. A terminal signals
neither: they have a session of their own.
"""

import contextlib
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Collection
from types import FrameType

from protocol.machine.marks import LAST_AGENT, RUN_MARKER
from protocol.machine.prctl import adopt_orphans, hide_memory
from protocol.machine.procfs import descendants, is_living, name_of, step_processes
from sflow_agent.connection.legacy import Legacy
from sflow_agent.guarding.keeper import Keeper
from sflow_agent.logs.output_handover import HeldOutputs, OutputSender, make_pair
from sflow_agent.processes.cleanup_list import CleanupList
from sflow_agent.processes.syscalls import wipe_variable

CONFIG_VARIABLE = "SFLOW_AGENT_CONFIG"
"""The variable with a job step's configuration: all its agents have the same standard input."""

CLEANUPS_WITHIN_S = 20.0
GRACE_S = 2.0
VERIFY_S = 5.0
WATCH_MARGIN_S = 5.0
"""After the grace: an agent that runs has ended its tasks itself by then."""
UNSET_LOOK_S = 5.0
"""How often it is looked whether the agent has begun to note anything."""
EXIT_ERROR = 1
"""The exit status of an agent with an error of ours, as the interpreter gives it."""
STANDSTILL_S = 2.0
"""An alarm that comes so much too late says that the guardian itself stood still."""
LONGEST_S = 3600.0
DIES_WITHIN_S = 3.0
"""A killed process whose files are in a file system that does not answer stays until that does: its tasks must not."""


class AgentStuckError(Exception):
    """The agent was killed, and does not end."""


class Watchdog:
    """The watch over an agent that stands still: it must not keep tasks alive longer than an agent that runs.

    An agent without a controller ends its tasks after its orphan grace. One that is stopped, or hangs in a file system,
    cannot: so it notes in memory that it shares with its guardian when it last heard of a controller, and is killed when
    the grace is over. Made before the agent is forked.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16)
        self._agent = 0
        self._alarm_at = 0.0
        self._not_before = 0.0
        self.has_killed = False
        """The agent did not run, and is not to be followed by another one: the controller is gone."""

    def note(self, heard_at: float, grace_s: float) -> None:
        """Note, as the agent, when a controller was last heard of (monotonic s), and how long to live without."""
        struct.pack_into("dd", self._memory, 0, heard_at, grace_s)

    def due(self) -> float | None:
        """Return when the agent must be killed unless it notes something newer; None before it has noted anything."""
        heard_at, grace_s = struct.unpack_from("dd", self._memory, 0)
        return heard_at + grace_s + WATCH_MARGIN_S if grace_s else None

    def begin(self, agent: int) -> None:
        """Watch over this process, as the guardian."""
        self._agent = agent
        signal.signal(signal.SIGALRM, self._on_alarm)
        self._arm(time.monotonic())

    def end(self) -> None:
        """Stop watching: the process has ended."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _arm(self, now: float) -> None:
        due = self.due()
        wait_s = UNSET_LOOK_S if due is None else max(due, self._not_before) - now
        wait_s = min(max(wait_s, 0.01), LONGEST_S)
        self._alarm_at = now + wait_s
        signal.setitimer(signal.ITIMER_REAL, wait_s)

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self.has_killed:
            raise AgentStuckError
        now = time.monotonic()
        if now > self._alarm_at + STANDSTILL_S:
            self._not_before = now + WATCH_MARGIN_S  # the agent may have stood still with it, and run again
        due = self.due()
        if due is None or now < max(due, self._not_before):
            self._arm(now)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._agent, signal.SIGKILL)
        self.has_killed = True
        signal.setitimer(signal.ITIMER_REAL, DIES_WITHIN_S)


def guard() -> int:
    """Fork the agent and watch it, and those that follow it; return the process's exit status, in all processes."""
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    _keep_descriptors_from_tasks()
    hide_memory()
    encoded_config = os.environ.get(CONFIG_VARIABLE)
    if encoded_config is not None:
        wipe_variable(CONFIG_VARIABLE)
        del os.environ[CONFIG_VARIABLE]
    adopt_orphans()
    return Guardian(encoded_config).run()


class Guardian:
    """The parent of an agent, and of another one when that is killed."""

    def __init__(self, encoded_config: str | None) -> None:
        self._encoded_config = encoded_config
        self._cleanups = CleanupList()
        self._keeper = Keeper(lambda: _clean_up(self._cleanups)) if encoded_config is None else None
        self._spared = frozenset(() if self._keeper is None else (self._keeper.pid,))
        self._watchdog = Watchdog()
        self._legacy = Legacy()
        self._agent = 0
        """Its pid while it lives; one that has ended may be another process's now."""
        self._is_last = False
        """The run ends here, or the node does: no other agent is to be started."""

    def run(self) -> int:
        """Start agents and watch over them; return the exit status, in the processes of the agents, too."""
        me = os.getpid()
        while True:
            agents_end, own_end = make_pair()
            self._watchdog.note(0.0, 0.0)
            self._agent = os.fork()
            if self._agent == 0:
                own_end.close()
                return self._be_agent(me, OutputSender(agents_end))
            agents_end.close()
            self._take_signals()
            status = self._guard(HeldOutputs(own_end))
            if status is not None:
                for number in (signal.SIGTERM, LAST_AGENT):  # the interpreter's end takes their handlers away
                    signal.signal(number, signal.SIG_IGN)
                if self._keeper is not None:
                    self._keeper.end()
                return status

    def _be_agent(self, guardian: int, handover: OutputSender) -> int:
        for number in (signal.SIGTERM, signal.SIGALRM, LAST_AGENT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (LAST_AGENT,))  # tasks would inherit that
        from protocol.machine.lean_msgspec import import_msgspec

        import_msgspec()
        from sflow_agent.agent import run_agent

        keep = None if self._keeper is None else self._keeper.expect
        note_heard = self._watchdog.note
        return run_agent(
            guardian, self._encoded_config, self._cleanups, handover, note_heard, self._legacy, keep
        )

    def _take_signals(self) -> None:
        if not self._legacy.follows:
            self._encoded_config = None
            # The agent reads the configuration; it must see the end of stdin if it is not needed.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.close(null)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(LAST_AGENT, self._on_last)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (LAST_AGENT,))  # the controller may send it before this
        if self._is_last:  # it came while there was no agent
            _signal(self._agent, signal.SIGTERM)

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._is_last = True
        if self._agent:
            _signal(self._agent, signal.SIGTERM)

    def _on_last(self, _number: int, _frame: FrameType | None) -> None:
        self._is_last = True

    def _guard(self, outputs: HeldOutputs) -> int | None:
        """Watch over the agent, and end what it leaves; return the exit status, or None if another agent is to follow."""
        self._watchdog.begin(self._agent)
        status = -signal.SIGKILL
        with contextlib.suppress(AgentStuckError):
            outputs.receive_until_closed()
            status = _wait(self._agent)
        self._watchdog.end()
        self._agent = 0
        left = _end_everything(outputs.drain, self._cleanups.run_mark(), self._spared)
        left += _clean_up(self._cleanups, self._spared)
        outputs.drain(0)
        outputs.close()
        for survivor in left:
            sys.stderr.write(f"sflow-agent: could not end {survivor}\n")
        if status != EXIT_ERROR and status >= 0:
            return status
        from protocol.text.signal_names import signal_name  # few agents are killed

        how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with {status}"
        is_last = bool(left) or self._is_last or self._watchdog.has_killed
        why_none = "" if is_last else self._legacy.begin_next(how, time.monotonic())
        if why_none is None:
            self._cleanups.forget()
            return None
        more = f"; {why_none}" if why_none else ""
        sys.stderr.write(f"sflow-agent: the agent {how}; its tasks were ended{more}\n")
        return 128 - status if status < 0 else status


def _keep_descriptors_from_tasks() -> None:
    """Close descriptors that a launcher left open (Slurm's PMI socket, a pipe) in tasks."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def _wait(agent: int) -> int:
    while True:
        with contextlib.suppress(InterruptedError):
            _, status = os.waitpid(agent, 0)
            return os.waitstatus_to_exitcode(status)


def _end_everything(
    pause: Callable[[int], object], run_mark: int | None, spared: Collection[int]
) -> list[str]:
    """Send SIGTERM, wait a short grace, send SIGKILL, verify; return "pid name" of the survivors."""
    started = time.monotonic()
    signalled: set[int] = set()
    while left := _living(run_mark, spared):
        now = time.monotonic()
        if now > started + GRACE_S + VERIFY_S:
            return [name_of(pid) for pid in left]
        number = signal.SIGTERM if now < started + GRACE_S else signal.SIGKILL
        for pid in left:
            if number == signal.SIGKILL or pid not in signalled:
                _signal(pid, number)
                _signal(pid, signal.SIGCONT)
                signalled.add(pid)
        pause(10)
    return []


def _clean_up(cleanups: CleanupList, spared: Collection[int] = ()) -> list[str]:
    """Run the cleanups that the agent did not reach, all at once; return the keys of those that failed."""
    running: dict[int, str] = {}
    failed: list[str] = []
    null = os.open(os.devnull, os.O_RDWR)
    files = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
    for key, (argv, environment) in cleanups.pending().items():
        environment.pop(RUN_MARKER, None)  # it must not be ended as a process of the run
        try:
            running[os.posix_spawnp(argv[0], argv, environment, file_actions=files)] = key
        except OSError:
            failed.append(key)
    deadline = time.monotonic() + CLEANUPS_WITHIN_S
    poller = select.poll()
    while running and time.monotonic() < deadline:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            poller.poll(10)
        elif (key := running.pop(pid, "")) and status != 0:
            failed.append(key)
    _end_everything(select.poll().poll, None, spared)
    return [f"the container of {key}" for key in (*failed, *running.values())]


def _living(run_mark: int | None, spared: Collection[int]) -> list[int]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    below = [pid for pid in descendants(os.getpid()) if pid not in spared and is_living(pid)]
    return below if run_mark is None else [*below, *step_processes(run_mark)]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
