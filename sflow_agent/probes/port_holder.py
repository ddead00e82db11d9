"""Describes the owner of a TCP port of this node, for a person who reads a failure.

Called by `exit_diagnosis`. Sockets and their owners are found by `sockets` and `socket_owner`.
"""

import contextlib
import itertools
import pwd
from pathlib import Path

from protocol.machine.marks import ATTEMPT_MARKER, RUN_MARKER
from protocol.machine.procfs import command_line, environment, name_of
from sflow_agent.probes.socket_owner import holder_of
from sflow_agent.probes.sockets import listening_sockets

WITHIN_S = 1.0
COMMAND_CHARACTERS = 80


def owner_of_port(port: int, marker: str) -> str | None:
    """Return the owner of a port, "process 4123 (python3 -m http.server) of user ann", or None when it is free by now.

    `marker` is the run's: an owner of the same run is named by its attempt too.
    """
    with contextlib.suppress(OSError):
        listeners = listening_sockets().get(port, ())
        if listeners:
            pid = holder_of({one.inode for one in listeners}, WITHIN_S)
            who = "a process" if pid is None else _described(pid, marker)
            return f"{who} of user {_user(listeners[0].uid)}"
    uid = _user_of_connection(port)
    return None if uid is None else f"a connection of user {_user(uid)}"


def listening_ports() -> set[int]:
    """Return all TCP ports of this node that a process listens on."""
    with contextlib.suppress(OSError):
        return set(listening_sockets())
    return set()


def _user_of_connection(port: int) -> int | None:
    """Return the user of a connection that keeps a local port from being bound. Source: proc(5), /proc/net/tcp."""
    suffix = f":{port:04X}"
    for family in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[1].endswith(suffix):
                    return int(fields[7])
    return None


def _described(pid: int, marker: str) -> str:
    variables = dict(one.partition(b"=")[::2] for one in environment(pid))
    attempt = variables.get(ATTEMPT_MARKER.encode())
    if attempt is not None and variables.get(RUN_MARKER.encode()) == marker.encode():
        return f"task {attempt.decode(errors='replace')} of this run, process {name_of(pid)},"
    words = command_line(pid)
    # What follows the first long option is not shown: it may be a key.
    shown = itertools.takewhile(
        lambda word: not word.startswith("--"), (word.decode(errors="replace") for word in words)
    )
    command = " ".join(" ".join(shown).split())  # a program given by -c has several lines
    return f"process {pid} ({command[:COMMAND_CHARACTERS]})" if command else f"process {name_of(pid)}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
