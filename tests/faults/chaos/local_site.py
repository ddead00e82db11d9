"""A fleet of local agents in namespaces of their own: processes, network, mounts. What a round leaves ends with them.

Only used inside: `enter` makes the namespaces, `LocalSite` runs and breaks a run in them.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from protocol.machine.procfs import (
    all_processes,
    command_line,
    environment,
    has_socket,
    is_agent,
    parent_of,
    read_status,
)
from sflow_agent.guarding.keeper import NAME as KEEPER
from sflow_agent.probes.sockets import listening_sockets
from sflow_ctl.runtime.files.settings_files import SITE_VARIABLE
from sflow_ctl.runtime.record.claim import read_claim
from tests.delaying_link import end_delaying, start_delaying
from tests.faults.chaos.jumping_clock import LONGEST_JUMP_S, JumpingClock, can_jump
from tests.faults.chaos.schedule import Round
from tests.faults.chaos.site import LONGEST_DELAY_S, LONGEST_PAUSE_S, Site
from tests.faults.chaos.small_disk import SmallDisk
from tests.support import ROOT, command

DELAY_QUEUE = 7
OURS = ("tests.stalling_fs", "tests.delaying_link")


def enter(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs this module's program with these arguments in new namespaces."""
    user = [] if os.geteuid() == 0 else ["-Ur"]
    inside = (
        'ip link set lo up && mount -t tmpfs none /dev/shm && "$@"; exit $?'  # bash reaps orphans meanwhile
    )
    unshare = ["unshare", *user, "-mnp", "--fork", "--kill-child", "--mount-proc", "bash", "-c", inside, "_"]
    return [*unshare, sys.executable, "-m", "tests.faults.chaos", *arguments]


def can_enter() -> bool:
    """Return whether this machine allows namespaces like these."""
    user = [] if os.geteuid() == 0 else ["-Ur"]
    probe = ["unshare", *user, "-mnp", "--fork", "--mount-proc", "bash", "-c", "ip link set lo up"]
    try:
        return subprocess.run(probe, capture_output=True, check=False, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class LocalSite(Site):
    """Runs with several local agents; the run directory is on a small disk of its own."""

    def __init__(self, chosen: Round, directory: Path) -> None:
        super().__init__(directory / "disk" / "run")
        self._round, self._home = chosen, directory
        self._disk = SmallDisk(directory, stalls=chosen.has_stalls)
        self._clock = JumpingClock(directory) if chosen.has_jumps and can_jump() else None
        self._delaying: subprocess.Popen[bytes] | None = None

    def start(self, output: Path, *, is_resume: bool) -> None:
        chosen = self._round
        what: list[str | Path] = (
            ["--resume", self._disk.seen_as]
            if is_resume
            else [self._home / "w.yaml", "--output-dir", self._disk.seen_as.parent, "--run-id", "run"]
        )
        options = [f"--lost-after={chosen.lost_after_s}", f"--orphan-grace={chosen.orphan_grace_s}"]
        if not is_resume:
            options.append("--simulate-gpus")
            if chosen.spools_logs:
                options.append(f"--log-spool={self._home / 'spool'}")
        clock = {} if self._clock is None else self._clock.environment
        site = self._home / "site.yaml"
        site.write_text(f"agent_link: {'network' if chosen.uses_network else 'auto'}\n")
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                command("run", *what, *options),
                cwd=self._home,
                env={**os.environ, "PYTHONPATH": str(ROOT), SITE_VARIABLE: str(site), **clock},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def status(self) -> int | None:
        return self._process.poll()

    def runs(self) -> list[int]:
        return [self._process.pid] if self._process.poll() is None else []

    def controllers(self) -> list[int]:
        claim = read_claim(self.run_directory / ".sflow/controller.lock")
        pid = 0 if claim is None or claim.is_released else claim.pid
        return [pid] if pid and "sflow_ctl" in _command_of(pid) else []

    def agents(self) -> list[int]:
        return [pid for pid in _agents_and_guardians() if is_agent(parent_of(pid))]

    def guardians(self) -> list[int]:
        return [pid for pid in _agents_and_guardians() if not is_agent(parent_of(pid))]

    def tasks(self) -> list[int]:
        return [pid for pid in all_processes() if not is_agent(pid) and _is_of_task(pid)]

    def left(self) -> list[str]:
        ours, found = {1, os.getpid()}, []
        for pid in all_processes():
            status = read_status(pid)
            is_ours = pid in ours or any(word in _command_of(pid) for word in OURS)
            if status is not None and status.is_living and not is_ours:
                found.append(f"{pid} {status.name} {_command_of(pid)[:120]}")
        found += [f"/dev/shm/{path.name}" for path in Path("/dev/shm").iterdir()]
        return found

    def kill_left(self) -> None:
        for text in self.left():
            with contextlib.suppress(ValueError, ProcessLookupError):
                os.kill(int(text.split()[0]), signal.SIGKILL)
        self._process.wait()

    def cut(self, pick: float) -> None:
        """Drop every packet between controller and agents."""
        self._rule("-j", "DROP")

    def reset(self, pick: float) -> None:
        """Refuse every connection between controller and agents, and end those that exist."""
        self._rule("-j", "REJECT", "--reject-with", "tcp-reset")

    def lossy(self, pick: float) -> None:
        """Lose a part of the packets between controller and agents."""
        chance = f"{0.1 + pick / 2:.2f}"
        self._rule("-m", "statistic", "--mode", "random", "--probability", chance, "-j", "DROP")

    def delay(self, pick: float) -> None:
        if self._delaying is not None:
            return  # it is long already
        self._delaying = start_delaying([], DELAY_QUEUE, 0.05 + pick * LONGEST_DELAY_S)
        self._rule("-j", "NFQUEUE", "--queue-num", str(DELAY_QUEUE), "--queue-bypass")

    def heal(self) -> None:
        subprocess.run(["iptables", "-F", "INPUT"], check=True)
        if self._delaying is not None:
            end_delaying(self._delaying)
            self._delaying = None

    def fill_disk(self) -> None:
        self._disk.fill()

    def free_disk(self) -> None:
        self._disk.free()

    def stall(self) -> None:
        self._disk.stall()

    def resume(self) -> None:
        self._disk.resume()

    def jump_clock(self, pick: float) -> None:
        if self._clock is not None:  # else this machine has no compiler
            self._clock.set_time_of_day((2 * pick - 1) * LONGEST_JUMP_S)

    def correct_clocks(self) -> None:
        if self._clock is not None:
            self._clock.correct()

    def pause(self, pick: float) -> None:
        if self._clock is not None:
            self._clock.pause(pick * LONGEST_PAUSE_S)

    def suspend(self) -> None:
        raise NotImplementedError("there is no Slurm")

    def unsuspend(self) -> None:
        raise NotImplementedError("there is no Slurm")

    def power_off(self, pick: float) -> None:
        raise NotImplementedError("local agents share a machine")

    def end(self) -> None:
        if self._delaying is not None:
            end_delaying(self._delaying)
        self._disk.end()

    def _rule(self, *rule: str) -> None:
        """Apply a rule to the controller's ports, in both directions."""
        pids = self.controllers()
        ports = [
            port
            for port, listeners in listening_sockets().items()
            if any(has_socket(pid, {one.inode for one in listeners}) for pid in pids)
        ]
        for port in ports:
            for side in ("--dport", "--sport"):
                subprocess.run(["iptables", "-A", "INPUT", "-p", "tcp", side, str(port), *rule], check=True)


def _agents_and_guardians() -> list[int]:
    """Return the processes of `sflow_agent`, without keepers."""
    return sorted(pid for pid in all_processes() if is_agent(pid) and not _is_keeper(pid))


def _is_of_task(pid: int) -> bool:
    return any(variable.startswith(b"SFLOW_RANK=") for variable in environment(pid))


def _is_keeper(pid: int) -> bool:
    status = read_status(pid)
    return status is not None and status.name == KEEPER


def _command_of(pid: int) -> str:
    return b" ".join(command_line(pid)).decode(errors="replace")
