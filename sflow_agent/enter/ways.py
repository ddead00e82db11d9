"""Finds how a command gets to where a rank's program runs: its process, its container, or its other machine.

`__main__` runs the command that these functions return. They only look; `remote` prepares the other machine.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from protocol.machine.marks import RANK_MARKER, RUN_MARKER
from protocol.machine.procfs import (
    all_processes,
    children,
    command_line,
    descendants,
    environment,
    is_living,
    lock_limit,
    oldest_first,
    parent_of,
    read_status,
)
from sflow_agent.enter import remote
from sflow_agent.enter.refusal import CannotEnterError
from sflow_agent.limits import step_mark

SHELL = ("sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash || exec sh")
_SERVICES = (b"docker", b"podman")
_UNPACKED = ("apptainer", "singularity", "enroot")
"""Engines whose containers are below the rank's own process."""
_STARTERS = (*_UNPACKED, "starter")
_NAMESPACES = {
    "user": "--user",
    "mnt": "--mount",
    "pid": "--pid",
    "net": "--net",
    "ipc": "--ipc",
    "uts": "--uts",
}


class Way(NamedTuple):
    """How a command is started beside a rank."""

    argv: tuple[str, ...]
    variables: dict[str, str]
    like: int
    """The process whose directory and life the command shares."""


def variables_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    pairs = (os.fsdecode(one).partition("=") for one in environment(pid) if one and not one.startswith(b"="))
    return {name: value for name, _, value in pairs}


def process_of_step(run: str, rank: str, number: str) -> int | None:
    """Return the main process on this node of a job step, by its number in the step; None if it is not here."""
    mark = step_mark(run, rank)
    ours = [pid for pid in all_processes() if lock_limit(pid) == mark and is_living(pid)]
    mains = [pid for pid in ours if parent_of(pid) not in ours]
    wanted = f"SLURM_PROCID={number}".encode()
    return next((pid for pid in oldest_first(mains) if wanted in environment(pid)), None)


def way_beside(pid: int, run: str, rank: str, command: Sequence[str], *, is_terminal: bool) -> Way:
    """Return the way beside the process that the agent has started. Raises: CannotEnterError."""
    variables = variables_of(pid)
    if not variables and read_status(pid) is not None:
        raise CannotEnterError(
            f"the environment of process {pid} cannot be read: its program is privileged, as a setuid apptainer is.\n"
            "Run containers unprivileged (apptainer --userns), or run the command within the task's script"
        )
    if (variables.get(RUN_MARKER), variables.get(RANK_MARKER)) != (run, rank):
        raise CannotEnterError(f"{rank} has no process {pid} here any more")
    words = command_line(pid)
    name = os.path.basename(words[0]) if words else b""  # noqa: PTH119 - bytes
    wanted = tuple(command or SHELL)
    if remote.is_remote(words):
        return Way(remote.command(words, variables, pid, wanted, is_terminal=is_terminal), variables, pid)
    if name in (b"srun", b"ssh"):
        by = "srun --overlap --nodelist=NODE" if name == b"srun" else "ssh HOST"
        raise CannotEnterError(
            f"the task's script has started {name.decode()} itself, and how that is entered only its author knows.\n"
            f"Run {by} COMMAND by hand, or give the task an operator of type {name.decode()}"
        )
    client = _client_of_service(pid, wanted, is_terminal=is_terminal)
    if client is not None:
        return Way(client, variables, pid)
    return way_into(pid, wanted)


def way_into(pid: int, command: Sequence[str]) -> Way:
    """Return the way beside a process, in its container if it is in one. Raises: CannotEnterError."""
    wanted = tuple(command or SHELL)
    inside = _in_container(pid)
    if inside is None:
        if _is_engine(pid):
            raise CannotEnterError(
                f"the container of process {pid} does not run yet, or its processes are hidden from this user"
            )
        return Way(wanted, variables_of(pid), pid)
    return Way((*_into_namespaces(inside), *wanted), variables_of(inside), inside)


# ---------------------------------------------------------------- containers of a service


def _client_of_service(pid: int, command: Sequence[str], *, is_terminal: bool) -> tuple[str, ...] | None:
    """Return the engine's own `exec`, if the rank or something below it is the client of a container's run."""
    for one in (pid, *descendants(pid)):
        words = command_line(one)
        program = os.path.basename(words[0]) if words else b""  # noqa: PTH119 - bytes
        if program not in _SERVICES or b"run" not in words:
            continue
        name = _name_of_container(words)
        if name is None:
            raise CannotEnterError(
                f"the container's name is not in the command of process {one}: give it one with --name"
            )
        engine = [os.fsdecode(word) for word in words[: words.index(b"run")]]
        terminal = ["--tty"] if is_terminal else []
        return (*engine, "exec", "--interactive", *terminal, name, *command)
    return None


def _name_of_container(words: Sequence[bytes]) -> str | None:
    for index, word in enumerate(words):
        if word.startswith(b"--name="):
            return os.fsdecode(word.removeprefix(b"--name="))
        if word == b"--name" and index + 1 < len(words):
            return os.fsdecode(words[index + 1])
    return None


# ---------------------------------------------------------------- containers of processes


def _in_container(pid: int) -> int | None:
    """Return the first process of the rank's container: in another mount namespace than what has started the rank.

    Only starters of containers are looked below: a program may give its own helpers namespaces.
    """
    outside = _namespace(parent_of(pid), "mnt") or _namespace(os.getpid(), "mnt")
    level = [pid]
    while level:
        for one in level:
            if _namespace(one, "mnt") not in (None, outside):
                return one
        level = [child for one in level if _may_start_container(one) for child in children(one)]
    return None


def _may_start_container(pid: int) -> bool:
    words = command_line(pid)[:3]
    return any(name in os.fsdecode(word).lower() for word in words for name in _STARTERS)


def _is_engine(pid: int) -> bool:
    """Return whether a process is an engine itself, or the agent's script that unpacks an image for one."""
    words = [os.fsdecode(word) for word in command_line(pid)]
    names = [Path(word).name.lower() for word in words[:2]]
    unpacks = words[3:4] == ["sflow"] and "enroot start" in words[2]
    return unpacks or any(name.startswith(_UNPACKED) for name in names)


def _namespace(pid: int, kind: str) -> str | None:
    """Return the name of a process's namespace; None if that cannot be seen."""
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return None


def _into_namespaces(pid: int) -> tuple[str, ...]:
    """Return the beginning of a command that runs in a process's namespaces, in its directory. Source: nsenter(1).

    Raises: CannotEnterError.
    """
    own = os.getpid()
    other = [kind for kind in _NAMESPACES if _namespace(pid, kind) not in (None, _namespace(own, kind))]
    if "user" not in other and os.geteuid() != 0:
        raise CannotEnterError(
            "the container was made by a privileged engine, and only root may enter its namespaces.\n"
            "Run it unprivileged (apptainer --userns), or run the command within the task's script"
        )
    if shutil.which("nsenter") is None:
        raise CannotEnterError(
            "this node has no nsenter, which enters containers: it is in the package util-linux"
        )
    keeps = ["--preserve-credentials"] if "user" in other else []
    return ("nsenter", f"--target={pid}", *(_NAMESPACES[kind] for kind in other), *keeps, "--wd", "--")
