"""The claim of one controller on a run directory, `controller.lock`.

Which controller runs this run, and whether it is alive. Written when a controller begins, renewed while it
lives, released at its end. A claim is exclusive by its incarnation, without file locks: those do not work on
every shared file system. Used by `planning.py` and `workflow.py`; `reader.py` asks whether the holder is
alive.
"""

import atexit
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from protocol.errors import UsageError
from protocol.machine.loop_signals import QuietThread
from protocol.machine.procfs import is_same_process
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.disk import unwritable
from sflow_ctl.runtime.record.durable import (
    UNREADABLE,
    create_durably,
    open_regular,
    read_regular,
    write_durably,
    write_whole,
)
from sflow_ctl.runtime.record.processes import process_start_ticks, process_world
from sflow_ctl.runtime.supervision.lifeline import lifeline

HEARTBEAT_S = 5.0
_GONE_AFTER = 2
"""Heartbeats in a row that find no run directory: a name may be missing for a moment where a server fails over."""
ENDED_BY_SLURM_S = 2 * HEARTBEAT_S + 1
"""A controller of this job's earlier start that was silent for this time is dead: Slurm ends a job before it starts it
again, but for processes on a node that it cannot reach. Sites start a requeued job two minutes later.
"""
LOOK_EVERY_S = 0.5
WATCH_S = 2 * HEARTBEAT_S + 1
"""How long a claim that seems old is watched before it is taken over."""
STALE_S = 60.0
"""Without a heartbeat for this time a controller on another host counts as dead, unless its job still exists.
"""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `controller.lock`."""

    incarnation: int
    host: str
    world: str
    """Boot and pid namespace in which `pid` is valid."""
    pid: int
    pid_started: int
    job_id: str = ""
    """The Slurm job that the controller runs in."""
    restarts: int = 0
    """How often that job had been requeued."""
    supervisor: int = 0
    """The process that starts another controller when this one is killed; 0 for none. While it lives, the run does."""
    supervisor_started: int = 0
    is_released: bool = False


_CLAIM = msgspec.json.Decoder(Claim)


class HolderState(StrEnum):
    """How much is known of a claim's holder."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Holder(NamedTuple):
    """A claim's holder, and the sentence about it."""

    state: HolderState
    text: str
    is_presumed: bool = False
    """Nothing but its silence says that it is dead, and clocks and caches of file systems may lie about that."""


def supervisor_pid() -> int:
    """Return the pid of this process's supervisor; 0 for none."""
    line = lifeline()
    return line.supervisor if line is not None and line.is_supervised else 0


def own_claim(incarnation: int) -> Claim:
    """Return a claim for this process."""
    return Claim(
        incarnation=incarnation,
        host=os.uname().nodename,
        world=process_world(),
        pid=os.getpid(),
        pid_started=process_start_ticks(os.getpid()),
        job_id=os.environ.get("SLURM_JOB_ID", ""),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        supervisor=(above := supervisor_pid()),
        supervisor_started=process_start_ticks(above) if above else 0,
    )


def is_of_earlier_start(claim: Claim) -> bool:
    """Return whether the claim's holder belonged to this process's Slurm job before it was requeued."""
    own = own_claim(0)
    return bool(own.job_id) and claim.job_id == own.job_id and claim.restarts < own.restarts


def read_claim(path: Path | str) -> Claim | None:
    """Return the claim in a file; None if there is no readable one."""
    try:
        return _CLAIM.decode(read_regular(path))
    except (OSError, *UNREADABLE):
        return None


def encode_claim(claim: Claim) -> bytes:
    """Return the content of `controller.lock`."""
    return msgspec.json.encode(claim) + b"\n"


def claim_text(claim: Claim) -> str:
    """Return who holds a claim, for a person."""
    return f"controller pid {claim.pid} on {claim.host}"


def holder_of(path: Path, claim: Claim) -> Holder:
    """Tell whether the process that holds the claim in this file is alive."""
    who = claim_text(claim)
    if claim.is_released:
        return Holder(HolderState.DEAD, f"{who} has ended")
    if claim.world == process_world():
        if is_same_process(claim.pid, claim.pid_started):
            return Holder(HolderState.ALIVE, who)
        if claim.supervisor and is_same_process(claim.supervisor, claim.supervisor_started):
            return Holder(
                HolderState.ALIVE, f"{who} was killed, and its supervisor pid {claim.supervisor} lives"
            )
        return Holder(HolderState.DEAD, f"{who} is gone")
    silence_s = _seconds_since_heartbeat(path)
    if is_of_earlier_start(claim):
        who = f"{who}, of this job before it was requeued,"
        if silence_s is not None and silence_s >= ENDED_BY_SLURM_S:
            return Holder(HolderState.DEAD, f"{who} has been silent for {silence_s:.0f} s")
        return Holder(HolderState.ALIVE, who)
    if silence_s is not None and silence_s < -STALE_S:
        ahead = f"the time of its last heartbeat is {-silence_s:.0f} s in the future"
        return Holder(HolderState.UNKNOWN, f"{who} may be alive: {ahead}")
    if silence_s is None or silence_s < STALE_S:
        return Holder(HolderState.ALIVE, who)
    silent = f"{who} has been silent for {silence_s:.0f} s"
    if not claim.job_id:
        return Holder(HolderState.DEAD, silent, is_presumed=True)
    from sflow_ctl.runtime.slurm.job_state import JobState, job_state  # only for other hosts' silent runs

    state = job_state(claim.job_id)
    if state is JobState.GONE:
        return Holder(HolderState.DEAD, f"{who} is gone with its Slurm job {claim.job_id}")
    known = "still exists" if state is JobState.EXISTS else "could not be queried"
    return Holder(HolderState.UNKNOWN, f"{silent}, and its Slurm job {claim.job_id} {known}")


def shows_life(path: Path, within_s: float = WATCH_S) -> bool:
    """Watch a claim, and return whether its holder renews it: no clock is needed for that."""
    deadline, first = time.monotonic() + within_s, _renewal(path)
    while time.monotonic() < deadline:
        if _renewal(path) != first:
            return True
        time.sleep(LOOK_EVERY_S)  # a process of another host: there is nothing to wait on
    return False


def _renewal(path: Path) -> tuple[int, int] | None:
    try:
        with open_regular(path) as file:  # opened: network file systems then ask their server
            info = os.fstat(file.fileno())
    except OSError:
        return None
    return (info.st_mtime_ns, info.st_ino)


def await_end_of_earlier_start(path: Path, within_s: float = STALE_S) -> None:
    """Wait until the controller of this job's earlier start is dead, if the claim in this file is its.

    One that is alive after `within_s` is on a node that Slurm cannot reach, and still works there.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        claim = read_claim(path)
        if claim is None or not is_of_earlier_start(claim):
            return
        if holder_of(path, claim).state is not HolderState.ALIVE:
            return
        time.sleep(LOOK_EVERY_S)  # a process of another host: there is nothing to wait on


def claim_run(directory: Path, after: int) -> "HeldClaim":
    """Claim a run whose last controller, of incarnation `after`, is dead. Of several callers one succeeds.

    Raises: UsageError if another process claims it at the same time; RunDirectoryError.
    """
    number = after + 1
    try:
        while True:
            claim, path = own_claim(number), directory / f"{layout.CLAIM}.{number}"
            try:
                create_durably(path, encode_claim(claim))
            except FileExistsError:
                if not _is_abandoned(path):
                    raise UsageError.of(
                        "still-running",
                        f"another sflow-ctl is resuming {directory}",
                        hint=f"follow it with sflow-ctl attach {shlex.quote(str(directory))}",
                    ) from None
                number += 1
                continue
            write_durably(directory / layout.CLAIM, encode_claim(claim))
            return HeldClaim(directory, claim)
    except OSError as error:
        raise unwritable(error, f"cannot claim the run in {directory}", directory) from error


def _is_abandoned(path: Path) -> bool:
    """Return whether the controller of a claim is dead, also one that died while it wrote the claim."""
    other = read_claim(path)
    if other is not None:
        return _is_predecessor(other) or holder_of(path, other).state is HolderState.DEAD
    age_s = _seconds_since_heartbeat(path)
    return age_s is not None and age_s >= STALE_S


def _is_predecessor(claim: Claim) -> bool:
    """Return whether the holder was killed, and this process was started in its place by the same supervisor."""
    own = own_claim(claim.incarnation)
    return (
        own.supervisor != 0
        and (own.world, own.supervisor, own.supervisor_started)
        == (claim.world, claim.supervisor, claim.supervisor_started)
        and not is_same_process(claim.pid, claim.pid_started)
    )


class HeldClaim:
    """This process's claim, renewed by a thread until it is released or the process ends."""

    def __init__(self, directory: Path, claim: Claim) -> None:
        self.claim = claim
        self.on_problem: Callable[[str], object] = lambda _text: None
        """Called in the thread, once for each new problem."""
        self._directory = directory
        self._path = directory / layout.CLAIM
        self._released = threading.Event()
        self._is_lost = False
        self._thread = QuietThread(self._keep, "claim")
        self._thread.start()
        atexit.register(self.release)

    def release(self) -> None:
        """Tell other hosts that this controller has ended. Does nothing the second time."""
        atexit.unregister(self.release)
        if self._released.is_set():
            return
        self._released.set()
        if self._is_lost:
            return
        current = read_claim(self._path)
        if current is not None and current.incarnation == self.claim.incarnation:
            with suppress(OSError):  # a full or vanished disk: the end of the heartbeat shows it as well
                # Not synced into the directory: after a crash of this machine its holder is known to be gone.
                write_whole(self._path, encode_claim(msgspec.structs.replace(current, is_released=True)))

    def problem(self) -> str | None:
        """Renew the claim; return what prevents that, None if nothing does."""
        try:
            current = read_claim(self._path)
            if current is not None and current.incarnation > self.claim.incarnation:
                self._is_lost = True
                return f"controller pid {current.pid} on {current.host} has taken over this run"
            os.utime(self._path)
        except FileNotFoundError:
            return f"the run directory {self._directory} was deleted: its records and logs are lost"
        except OSError as error:
            return f"the run directory {self._directory} cannot be written: {error.strerror}"
        return None

    def _keep(self) -> None:
        last: str | None = None
        missing = 0
        while not self._released.wait(HEARTBEAT_S):
            problem = self.problem()
            missing = missing + 1 if _is_gone(self._directory) else 0
            if missing >= _GONE_AFTER:
                problem = f"the run directory {self._directory} was deleted: no command reaches this run any more, and it ends"
                self._is_lost = True
            if problem is not None and problem != last:
                self.on_problem(problem)
            last = problem
            if self._is_lost:
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _is_gone(directory: Path) -> bool:
    """Return whether a directory was deleted; a file system that does not answer says nothing about that."""
    try:
        directory.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def last_written_ns(directory: Path) -> int:
    """Return when a run's controller last wrote something, by the clock of its file system; 0 if nothing can be read."""
    telemetry = directory / layout.TELEMETRY
    signs = [directory / name for name in (layout.CLAIM, layout.JOURNAL, layout.RUN_LOG)]
    with suppress(OSError):
        signs += telemetry.iterdir()
    newest = 0
    for path in signs:
        with suppress(OSError):
            newest = max(newest, path.stat().st_mtime_ns)
    return newest


def is_abandoned_for_good(path: Path) -> bool:
    """Return whether a claim whose controller is gone was left so long ago that no other one takes the run over any more."""
    age_s = _seconds_since_heartbeat(path)
    return age_s is not None and age_s > WATCH_S


def _seconds_since_heartbeat(path: Path) -> float | None:
    """Return the age of the claim by the clock of its file system if possible, else by ours; None if unknown."""
    probe = path.with_name(f".{path.name}.{os.urandom(3).hex()}")
    try:
        renewed = path.stat().st_mtime
    except OSError:
        return None
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:
        now = time.time_ns() / 1e9
    return now - renewed
