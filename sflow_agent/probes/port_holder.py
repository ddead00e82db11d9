"""Who has a TCP port of this node, for a person. Source: proc(5), /proc/net/tcp and /proc/PID/fd."""

import contextlib
import itertools
import pwd
import time
from pathlib import Path
from typing import NamedTuple

from sflow_agent.processes.procfs import (
    ATTEMPT_MARKER,
    RUN_MARKER,
    all_processes,
    command_line,
    environment,
    has_socket,
    name_of,
)

WITHIN_S = 1.0
COMMAND_CHARACTERS = 80
_LISTEN = "0A"


class _Socket(NamedTuple):
    is_listening: bool
    uid: int
    inode: str


def owner_of_port(port: int, marker: str) -> str | None:
    """Return who holds a port, "process 4123 (python3 -m http.server) of user ann", or None when it is free by now.

    `marker` is the run's: an owner of the same run is named by its attempt too.
    """
    sockets = [one for family in ("tcp", "tcp6") for one in _sockets(family, port)]
    if not sockets:
        return None
    listening = [one for one in sockets if one.is_listening]
    chosen = listening or sockets
    pid = _holder({one.inode for one in chosen})
    if pid is None:
        state = "a process" if listening else "a connection"
        return f"{state} of user {_user(chosen[0].uid)}"
    return f"{_described(pid, marker)} of user {_user(chosen[0].uid)}"


def listening_ports() -> set[int]:
    """All TCP ports of this node that somebody listens on."""
    found = set()
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
                fields = line.split()
                if len(fields) > 3 and fields[3] == _LISTEN:
                    found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def _sockets(family: str, port: int) -> list[_Socket]:
    try:
        lines = Path(f"/proc/net/{family}").read_text().splitlines()[1:]
    except OSError:
        return []
    suffix = f":{port:04X}"
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and fields[1].endswith(suffix):
            found.append(_Socket(fields[3] == _LISTEN, int(fields[7]), fields[9]))
    return found


def _holder(inodes: set[str]) -> int | None:
    wanted = [int(inode) for inode in inodes - {"0"}]
    until = time.monotonic() + WITHIN_S
    for pid in all_processes():
        if time.monotonic() > until:
            return None
        if has_socket(pid, wanted):
            return pid
    return None


def _described(pid: int, marker: str) -> str:
    variables = dict(one.partition(b"=")[::2] for one in environment(pid))
    attempt = variables.get(ATTEMPT_MARKER.encode())
    if attempt is not None and variables.get(RUN_MARKER.encode()) == marker.encode():
        return f"task {attempt.decode(errors='replace')} of this run, process {name_of(pid)},"
    words = command_line(pid)
    # What comes after the first long option is nobody's business: it may be a key.
    shown = itertools.takewhile(
        lambda word: not word.startswith("--"), (word.decode(errors="replace") for word in words)
    )
    command = " ".join(shown).strip()
    return f"process {pid} ({command[:COMMAND_CHARACTERS]})" if command else f"process {name_of(pid)}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
