"""A program of its own: starts a command as the first process of new namespaces.

`python first_process.py FLAGS COMMAND...` prints that process's id, as seen from here.

The first process of a PID namespace gets every orphan in it; with SIGCHLD ignored, which the command
inherits, the kernel reaps them. A shell's `unshare` would stay as one more process per machine.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

NEW_MOUNTS = 0x00020000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_PIDS = 0x20000000
NEW_NETWORK = 0x40000000
"""clone(2), <linux/sched.h>"""


def main(flags: int, command: list[str]) -> None:
    """Never returns."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # getpid() is 1; the /proc that is still mounted here tells the number that the outside sees.
    sys.stdout.write(str(Path("/proc/self").readlink()))
    sys.stdout.flush()
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
