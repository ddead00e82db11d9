"""Runs a command with system calls that fail: `without_syscalls.py ENOSYS pidfd_open,memfd_create -- COMMAND ...`.

By a seccomp filter, so it needs no rights and holds for all that the command starts. Source: seccomp(2).
"""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {"pidfd_open": 434, "memfd_create": 319, "inotify_init1": 294, "splice": 275},
    "aarch64": {"pidfd_open": 434, "memfd_create": 279, "inotify_init1": 26, "splice": 76},
}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000


def is_supported() -> bool:
    """Return whether this machine's system calls are known here."""
    return platform.machine() in NUMBERS


def command(error: str, *calls: str) -> tuple[str, ...]:
    """Return the beginning of a command line in which these calls fail."""
    return (sys.executable, __file__, error, ",".join(calls), "--")


def forbid(number: int, calls: list[str]) -> None:
    """Let these system calls fail with `number` from here on."""
    numbers = NUMBERS[platform.machine()]
    program = [(LOAD_NUMBER, 0, 0, 0)]
    for call in calls:
        program += [(JUMP_IF_EQUAL, 0, 1, numbers[call]), (RETURN, 0, 0, FAIL | number)]
    program.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forbid(getattr(errno, sys.argv[1]), sys.argv[2].split(","))
    os.execvp(sys.argv[4], sys.argv[4:])
