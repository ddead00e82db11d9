"""Runs a command beside a task of the `ssh` operator, on the task's other machine.

The task's variables are copied first, over standard input into a file that only its user can read: they are not for a command
line, and standard input is then the command's. The other end of the task itself is in `sflow_ctl/planner/launch/ssh.py`.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from protocol.machine.marks import RANK_MARKER, RUN_MARKER
from sflow_agent.enter.refusal import CannotEnterError

NAME = b"sflow-ssh"
"""The name under which the operator's local script runs; its options for ssh follow it."""
FROM_TASK = "SFLOW_SSH_NAMES"
"""Names the variables that the task has on the other machine."""
_OF_OPERATOR = frozenset({FROM_TASK, "SFLOW_SSH_SCRIPT", "SFLOW_SSH_TARGET"})
_COPY_WITHIN_S = 60
_STORE = "umask 077; file=$(mktemp /tmp/sflow-exec.XXXXXXXX) && cat >$file && echo $file"
_BESIDE = """file=$1 marker=$2 own=$2/exec/$$
shift 2
living() { grep -lzFx -- "$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | sort -n; }
main=$(living "SFLOW_SSH_MARKER=$marker" | head -n 1)
if [ -z "$main" ]; then
    rm -f -- "$file"
    echo "sflow-ctl exec: the task has no process on $HOSTNAME any more" >&2
    exit 125
fi
. "$file"
rm -f -- "$file"
cd -P "/proc/$main/cwd" || exit 125
self=$$ connection=$PPID
( trap '' HUP TERM INT
  exec </dev/null >/dev/null 2>&1
  while kill -0 $self && [ -d /proc/$connection ]; do sleep 0.5; done
  for signal in HUP TERM TERM TERM KILL; do
      left=$(living "SFLOW_EXEC_MARKER=$own")
      [ "$left" ] || break
      kill -$signal $left
      kill -CONT $left
      sleep 0.5
  done ) &
SFLOW_SSH_MARKER=$marker SFLOW_EXEC_MARKER=$own "$@"
"""
"""The command ends with its task, whose supervisor knows it by the marker, and with the connection, which the loop watches."""


def is_remote(words: Sequence[bytes]) -> bool:
    """Return whether a process's command line is that of a task on another machine."""
    return words[3:4] == [NAME]


def command(
    words: Sequence[bytes],
    variables: Mapping[str, str],
    pid: int,
    wanted: Sequence[str],
    *,
    is_terminal: bool,
) -> tuple[str, ...]:
    """Copy the task's variables to the other machine; return the ssh command that runs `wanted` there.

    Raises: CannotEnterError.
    """
    options = [os.fsdecode(word) for word in words[4 : words.index(b"--")]]
    target = os.fsdecode(words[words.index(b"--") + 1])
    try:
        stored = subprocess.run(
            ("ssh", *options, "--", target, f"bash -c {shlex.quote(_STORE)}"),
            input=os.fsencode(_exports(variables)),
            stdout=subprocess.PIPE,
            env=dict(variables),
            timeout=_COPY_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotEnterError(f"{target} does not answer over ssh: {error}") from error
    file = os.fsdecode(stored.stdout).strip()
    if stored.returncode or not file:
        raise CannotEnterError(f"{target} cannot be reached over ssh, or takes no file in its /tmp")
    marker = f"{variables[RUN_MARKER]}/{variables[RANK_MARKER]}/{pid}"
    there = ("bash", "-c", _BESIDE, "sflow-exec", file, marker, *wanted)
    if is_terminal:
        options = ["-t", *(one for one in options if one != "-T")]
    return ("ssh", *options, "--", target, shlex.join(there))


def _exports(variables: Mapping[str, str]) -> str:
    """Return the script that sets the task's variables, as its own first lines do."""
    names = {*variables.get(FROM_TASK, "").split(), *(one for one in variables if one.startswith("SFLOW_"))}
    kept = [
        one
        for one in sorted(names & variables.keys())
        if one not in _OF_OPERATOR and not one.endswith("_MARKER") and one != "SFLOW_ATTEMPT_ID"
    ]
    return "".join(f"export {name}={shlex.quote(variables[name])}\n" for name in kept)
