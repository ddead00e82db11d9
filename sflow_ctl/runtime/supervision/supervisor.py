"""The process that the user knows as `sflow-ctl run`: starts the controller, and another one when that is killed.

Does as little as it can: it waits for signals, passes them on, keeps descriptors that the controller gives it, and ends as the
controller did. `__main__` calls it before anything else is imported, so it imports next to nothing. The controller's end of
the socket is in `lifeline.py`.
"""

import _socket
import contextlib
import fcntl
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

RESTARTS, WITHIN_S = 3, 60.0
"""So many controllers are started again in that time: one that always dies must not look like a run that lives."""
CRASHES = frozenset(
    (
        signal.SIGKILL,  # by a person, or for lack of memory
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGSYS,
    )
)
"""Ends after which another controller may fare better. An exit, and an error of ours, would be repeated."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
STATUSES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
"""Exit statuses of runs that a signal stops. The others announce the end of the job's time."""
FIRST = signal.SIGRTMIN + 1
"""The signal that stands for the first of `FORWARDED`. A terminal and Slurm signal both processes: the controller has to know
which signals it has got twice."""
SUPERVISOR_DIED = signal.SIGRTMIN
STOPS_A_RUN = (*FORWARDED, *range(FIRST, FIRST + len(FORWARDED)), SUPERVISOR_DIED)
"""All signals that stop a run, as its controller gets them."""
KEEP, FINISHED, BLOCKED = b"K", b"F", b"B"
"""What a controller says: keep these descriptors, the first of which says what they are; nothing is left to take over; end
me, with this status and text, although my loop waits for a file system."""
MAX_TEXT_BYTES = 4096
LOOK_S = 1.0
"""How often the supervisor looks whether a controller takes the signals that stop it."""
DEAF_S, DEAF_TWICE_S = 15.0, 8.0
"""For how long it may take none, after the first signal and after another one. A thread of it takes them while its loop is
held up, unless that has not begun."""
DIES_WITHIN_S = 3.0
"""After SIGKILL. A process whose files do not answer may stay until they do."""
MAX_DESCRIPTORS = 250
"""Of one message; the kernel's limit is 253."""
_BEGIN = (["run"], ["rerun"], ["replay"])
"""Commands that begin or continue a run."""
_STARTS_NOTHING = frozenset(("-h", "--help", "--dry-run", "--tui"))


class Death(NamedTuple):
    """The end of a controller that was killed, for the next one."""

    signal: int
    wall_ns: int
    at: float
    """Monotonic seconds."""
    descriptors: tuple[int, ...]
    """What it had given away to be kept. They stay the supervisor's: a copy is the controller's."""
    ends: tuple[tuple[int, int], ...]
    """Children that came to the supervisor and have ended: pid and exit status, negative for a signal."""


class Birth(NamedTuple):
    """What a controller's process starts with."""

    socket: "_socket.socket"
    supervisor: int
    mask: frozenset[int]
    """The signals that were blocked when the program was started."""
    death: Death | None
    """Of the controller before, if there was one."""


def begins_run(argv: "Sequence[str]") -> bool:
    """Return whether these arguments of the program begin a run, by the words themselves."""
    words = [word for word in argv if word != "--debug"]
    is_another_process = words[:1] == ["run"] and "--json" in words and "--detach" not in words
    return words[:1] in _BEGIN and _STARTS_NOTHING.isdisjoint(words) and not is_another_process


def supervise() -> Birth:
    """Fork the controller, and return in its process. The caller's process becomes the supervisor, and never returns.

    Raises: OSError when there can be no other process.
    """
    waited = [int(number) for number in (*FORWARDED, signal.SIGCHLD, signal.SIGIO)]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        waited.remove(signal.SIGHUP)  # nohup
    blocked = {
        *waited,
        *range(FIRST, FIRST + len(FORWARDED)),
        SUPERVISOR_DIED,
    }  # a controller has no handlers at first
    mask = frozenset(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, blocked))
    try:
        return _Supervisor(waited, mask).run()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise


class _Supervisor:
    def __init__(self, waited: list[int], mask: frozenset[int]) -> None:
        self._waited = waited
        self._mask = mask
        self._kept: list[int] = []
        self._ends: list[tuple[int, int]] = []
        self._restarts: list[float] = []
        self._is_hidden = False
        self._stops: list[int] = []
        self._deaf_since: float | None = None
        self._ending: tuple[int, float] | None = None
        """The exit status, once the controller is killed because it is blocked, and when that must have ended."""
        self._controller = 0
        self._socket: _socket.socket | None = None

    def run(self) -> Birth:
        death = None
        while True:
            birth = self._fork(death)
            if birth is not None:
                return birth
            status = self._await_end()
            death = self._death(status)
            if death is None:
                _end_as(status)

    def _fork(self, death: Death | None) -> Birth | None:
        """Start a controller; return what it starts with in its process, and None in this one."""
        mine, its = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        me = os.getpid()
        fcntl.fcntl(mine, fcntl.F_SETOWN, me)
        fcntl.fcntl(mine, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        self._controller = os.fork()
        if self._controller == 0:
            mine.close()
            if self._socket is not None:
                self._socket.close()
            return Birth(its, me, self._mask, death)
        its.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = mine
        return None

    def _await_end(self) -> int:
        """Serve the controller until it ends; return its exit status, negative for a signal."""
        while True:
            number = self._next_signal()
            if number == 0:
                self._look(time.monotonic())
            elif number == signal.SIGCHLD:
                status = self._reap()
                if status is not None:
                    self._hear()  # what it said last
                    return status if self._ending is None else self._ending[0]
            elif number == signal.SIGIO:
                self._hear()
            else:
                self._stops.append(number)
                _send(self._controller, FIRST + FORWARDED.index(number))

    def _next_signal(self) -> int:
        """Wait for a signal; return 0 when it is time to look at a controller that is to stop."""
        if not self._stops and self._ending is None:
            return signal.sigwaitinfo(self._waited).si_signo
        found = signal.sigtimedwait(self._waited, LOOK_S)
        return 0 if found is None else found.si_signo

    def _look(self, now: float) -> None:
        """End a controller that takes no signals, and leave one that cannot be killed behind."""
        if self._ending is not None:
            status, until = self._ending
            if now >= until:
                _complain(
                    f"process {self._controller}, the controller, cannot be killed before what it waits for answers"
                )
                os._exit(status)
            return
        if not _is_deaf(self._controller):
            self._deaf_since = None
            return
        if self._deaf_since is None:
            self._deaf_since = now
        deaf_s = now - self._deaf_since
        if deaf_s >= (DEAF_S if len(self._stops) == 1 else DEAF_TWICE_S):
            name = signal.Signals(self._stops[0]).name
            _complain(
                f"{name} has not reached the controller for {deaf_s:.0f} s: it waits for something that does not answer, most "
                "likely a file system, and is killed. What has happened meanwhile is not recorded"
            )
            self._end_blocked(STATUSES.get(self._stops[0], 124), now)

    def _end_blocked(self, status: int, now: float) -> None:
        """Kill the controller for good, and close its ports: it may keep them, and agents would take it for a stopped one."""
        self._ending = status, now + DIES_WITHIN_S
        _send(self._controller, signal.SIGKILL)
        for number in self._kept:
            with contextlib.suppress(OSError):  # no socket
                port = _socket.socket(fileno=os.dup(number))
                port.shutdown(_socket.SHUT_RDWR)
                port.close()

    def _reap(self) -> int | None:
        """Take in ends of children; return the exit status of the controller if it is among them."""
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            code = os.waitstatus_to_exitcode(status)
            if pid == self._controller:
                found = code
            else:  # of a controller that was killed
                self._ends.append((pid, code))
                self._tell(b"%d %d" % (pid, code))

    def _tell(self, text: bytes) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):  # it has just died: the next one gets the whole list
            self._socket.send(text)

    def _hear(self) -> None:
        assert self._socket is not None
        while True:
            if not self._is_hidden:
                self._is_hidden = True
                _prepare_to_inherit()  # before this process can be asked for what it keeps
            try:
                said, ancillary, _, _ = self._socket.recvmsg(
                    MAX_TEXT_BYTES + 16, _socket.CMSG_LEN(4 * MAX_DESCRIPTORS)
                )
            except OSError:
                return
            if not said:
                return
            if said.startswith(BLOCKED) and self._ending is None:
                status, _, text = said[1:].decode(errors="replace").partition(" ")
                _complain(text)
                self._end_blocked(int(status), time.monotonic())
            for old in self._kept:
                os.close(old)
            self._kept = []
            for _, _, data in ancillary:
                numbers = memoryview(data[: len(data) - len(data) % 4]).cast("i")
                self._kept += numbers.tolist()
            for number in self._kept:
                os.set_inheritable(number, False)

    def _death(self, status: int) -> Death | None:
        """Return what the next controller has to know, or None if there is to be none."""
        if -status not in CRASHES or not self._kept or self._ending is not None:
            return None
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if at > now - WITHIN_S]
        if len(self._restarts) >= RESTARTS:
            _complain(f"the controller was killed {RESTARTS + 1} times within {WITHIN_S:g} s: the run ends")
            os._exit(3)
        self._restarts.append(now)
        return Death(-status, time.time_ns(), now, tuple(self._kept), tuple(self._ends))


def _prepare_to_inherit() -> None:
    """Take in children of controllers that die, and hide the descriptors that this process keeps."""
    from protocol.machine.prctl import adopt_orphans, hide_memory

    adopt_orphans()
    hide_memory()


def _is_deaf(pid: int) -> bool:
    """Return whether a process that may run has signals waiting that it does not block. Source: proc_pid_status(5)."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - pathlib is not imported here
            fields = dict(line.split(b":", 1) for line in file if b":" in line)
        waiting = (int(fields[b"SigPnd"], 16) | int(fields[b"ShdPnd"], 16)) & ~int(fields[b"SigBlk"], 16)
    except (OSError, KeyError, ValueError):
        return False
    is_stopped = fields[b"State"].split()[0] in (b"T", b"t")
    return not is_stopped and any(waiting >> (number - 1) & 1 for number in STOPS_A_RUN)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"sflow-ctl: {text}\n".encode())


def _end_as(status: int) -> NoReturn:
    """End as the controller did: with its exit status, or by the same signal."""
    if status >= 0:
        os._exit(status)
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (-status,))
    if -status in (signal.SIGQUIT, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        import resource  # one core file is enough

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _send(os.getpid(), -status)
    os._exit(128 - status)
