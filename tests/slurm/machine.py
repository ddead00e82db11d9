"""One machine of a cluster: its namespaces, what runs in it, its end."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.slurm import first_process
from tests.slurm.processes import Process, in_same_namespace

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}
DAEMONS = {"munged", "slurmd", "slurmctld", "slurmscriptd"}


def start_first_process(
    flags: int, *command: str, within: Process | None = None, stdin: int | None = None
) -> Process:
    """Starts a command in new namespaces, below the PID namespace of another first process if one is given."""
    enter = ["nsenter", "--target", str(within.pid), "--pid"] if within else []
    program = [sys.executable, "-I", "-S", str(HERE / "first_process.py"), str(flags)]
    started = subprocess.run(
        [*enter, *program, *command],
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    process = Process.of(int(started.stdout)) if started.returncode == 0 and started.stdout else None
    if process is None:
        raise RuntimeError(f"no new namespaces for {command[0]}: {started.stderr.strip()}")
    return process


@dataclass(frozen=True)
class Machine:
    """A running machine. Everything in it ends with its first process."""

    name: str
    first: Process

    @classmethod
    def start(cls, name: str, keeper: Process, directory: Path, own_directories: Sequence[Path]) -> "Machine":
        """With own name, mounts and loopback; the link to the others comes later, the daemons after that."""
        flags = (
            first_process.NEW_PIDS
            | first_process.NEW_NETWORK
            | first_process.NEW_UTS
            | first_process.NEW_IPC
            | first_process.NEW_MOUNTS
        )
        machine = cls(name, start_first_process(flags, "sleep", "infinity", within=keeper))
        machine.shell(*_boot(name, directory))
        for path in own_directories:
            machine.own_directory(path, directory)
        return machine

    def own_directory(self, path: Path, directory: Path) -> Path:
        """The path is this machine's disk from now on, until its power is off. Returns where the disk lies."""
        disk = directory / "disks" / self.name / path.relative_to("/")
        disk.mkdir(parents=True, exist_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        self.shell(f"mount --bind {shlex.quote(str(disk))} {shlex.quote(str(path))}")
        return disk

    def argv(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> list[str]:
        """Return the command that, run outside, runs that one in the machine."""
        variables = [f"{name}={value}" for name, value in {**ENVIRONMENT, **environment}.items()]
        enter = [
            "nsenter",
            "--target",
            str(self.first.pid),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--",
        ]
        return [*enter, "env", "-i", "-C", str(cwd), *variables, *command]

    def shell(self, *lines: str) -> str:
        """Standard output of shell commands in the machine. Raises with their words if one of them fails."""
        return checked(self.argv(["sh", "-ec", "\n".join(lines)], Path("/"), {}))

    def processes(self) -> list[Process]:
        """Return its processes without the first process and the machine's own daemons."""
        return [process for process in in_same_namespace(self.first) if _plain_name(process) not in DAEMONS]

    def daemon(self, name: str) -> Process | None:
        """The running munged, slurmd or slurmctld; a child that slurmd forks for a job is not taken for it."""
        found = [process for process in in_same_namespace(self.first) if _plain_name(process) == name]
        return min(found, key=lambda process: (process.started, process.pid), default=None)

    def listens(self, port: int) -> bool:
        """Looks at the socket table: a connection attempt that fails would cost Slurm a second."""
        sockets = Path(f"/proc/{self.first.pid}/net/tcp").read_text()
        return f":{port:04X} 00000000:0000 0A" in sockets


def _plain_name(process: Process) -> str:
    """Return a process's name without Debian's suffix: a daemon of 24.11 that was reconfigured has executed `slurmd-wlm`."""
    return process.name.removesuffix("-wlm")


def checked(argv: Sequence[str], stdin: str = "") -> str:
    """Standard output of a command. Raises with its words if it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()
        raise RuntimeError(f"{shlex.join(argv)}\nended with status {done.returncode}: {words}")
    return done.stdout


def _boot(name: str, directory: Path) -> list[str]:
    etc = shlex.quote(str(directory / "etc"))
    return [
        "mount --make-rprivate /",
        "mount -t proc proc /proc",
        f"echo {name} > /proc/sys/kernel/hostname",
        f"mount --bind {etc}/hosts /etc/hosts",
        f"mount --bind {etc} /etc/slurm",
        "mount -t tmpfs -o mode=1777 shm /dev/shm",
        "mount -t tmpfs -o mode=755 run /run",
        # A new /sys shows this machine's network devices; its control groups have to be carried over.
        "mkdir /run/cgroup /run/munge",
        "mount --rbind /sys/fs/cgroup /run/cgroup",
        "mount -t sysfs sys /sys",
        "mount --move /run/cgroup /sys/fs/cgroup",
        "ip link set lo up",
        f"munged --force --num-threads=2 --key-file={etc}/munge.key --log-file=/run/munge/munged.log "
        "--seed-file=/run/munge/munged.seed --pid-file=/run/munge/munged.pid",
    ]
